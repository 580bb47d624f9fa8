"""SFT: a policy learns to reverse texts from examples. 40 steps; or 20, and 20 more from their checkpoint, which is the same.

python sft.py --max-steps 20 --ckpt
python sft.py --max-steps 40 --ckpt.resume-step 20
"""

import random
import sys

import policy
import runtree
import settings
import torch
from problems import answer, number, texts


class Batches:
    """Texts in another order in each epoch. Where it stands is its state: the order follows from the seed and the epoch."""

    def __init__(self, texts, size, seed):
        self.texts, self.size, self.seed = texts, size, seed
        self.epoch = self.place = 0

    def next(self):
        if self.place + self.size > len(self.texts):
            self.epoch, self.place = self.epoch + 1, 0
        order = list(range(len(self.texts)))
        random.Random(number(self.seed, "epoch", self.epoch)).shuffle(order)
        chosen = order[self.place : self.place + self.size]
        self.place += self.size
        return [self.texts[each] for each in chosen]

    def state_dict(self):
        return {"epoch": self.epoch, "place": self.place}

    def load_state_dict(self, state):
        self.epoch, self.place = state["epoch"], state["place"]


def main(argv):
    args = settings.parse_sft(argv)
    given = args.settings
    policy.make_exact()
    model = policy.Policy(given["seed"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=given["learning_rate"])
    # Over schedule_steps, not over max_steps: where this launch stops must not change how it learns until then.
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, given["schedule_steps"])
    batches = Batches(texts(given["seed"], "data", given["texts"]), given["batch"], given["seed"])
    progress = {"step": 0, "total_samples": 0, "total_tokens": 0}
    state = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "dataloader": batches, "progress": progress}

    run = runtree.init(settings.PROJECT, run_id=args.run_id, resume="allow", config=args.config)
    with run, runtree.Checkpointer(run, args.ckpt) as checkpoints:
        start = checkpoints.resume(state) or 0
        for step in range(start + 1, given["max_steps"] + 1):
            batch = batches.next()
            answers = [answer(text) for text in batch]
            loss = model.loss(batch, answers, [1.0] * len(batch))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.log({"loss": loss.item(), "lr": scheduler.get_last_lr()[0]}, step=step)
            scheduler.step()
            progress["step"] = step
            progress["total_samples"] += len(batch)
            progress["total_tokens"] += policy.count_tokens(batch, answers)
            if checkpoints.should_save(step, is_last=step == given["max_steps"]):
                checkpoints.save(step, state)
    return run


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except runtree.Error as error:
        raise SystemExit(str(error)) from None
