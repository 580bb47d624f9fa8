"""The orchestrator of the RL example: asks the inference server for completions, scores them, and ships batches to the trainer.

It is started by rl.py. It has no weights of its own: it passes on those of the trainer, and has to do with texts alone.
"""

import sys
import time

import link
import runtree
import settings
from problems import advantages, number, reward, texts

# How long a server that is not there, or a trainer that still imports torch, is waited for.
PATIENCE_SECONDS = 60.0


class Inference:
    """The inference server, sent the weights that it does not have: at a start, at a resume, and when it was started again."""

    def __init__(self, address):
        self.address = address
        self.sent = 0

    def complete(self, texts, seed, step, version, weights):
        """Completions of texts with exactly these weights."""
        question = {"do": "complete", "version": version, "texts": texts, "seed": seed}
        deadline = time.monotonic() + PATIENCE_SECONDS
        hint = f"waiting for an inference server at {self.address}: python inference.py"
        while True:
            try:
                with link.connect(link.address_of(self.address), PATIENCE_SECONDS, hint) as server:
                    link.send(server, question)
                    told, _ = link.receive(server)
                    if told["version"] != version:
                        self.sent += 1
                        link.send(server, {"do": "load", "step": step}, weights)
                        link.receive(server)
                        link.send(server, question)
                        told, _ = link.receive(server)
                if told["version"] == version:
                    return told["completions"]
            except (EOFError, ConnectionError):
                # It was killed. Asked again, with the same seed and weights, the next one says the same.
                if time.monotonic() > deadline:
                    raise SystemExit(f"there is no inference server at {self.address}: python inference.py") from None


def main(argv):
    args = settings.parse_rl(argv, "orchestrator")
    given = args.settings
    inference = Inference(given["inference"])
    progress = {"step": 0, "total_tokens": 0, "total_samples": 0, "total_problems": 0}
    state = {"progress": progress}

    run = runtree.init(settings.PROJECT, run_id=args.run_id, resume="allow", fork=args.fork, base=args.base, config=args.config)
    with run, runtree.Checkpointer(run, args.ckpt, component="orchestrator", parts=settings.PARTS) as checkpoints:
        start = checkpoints.resume(state) or 0
        with link.connect(str(args.link), PATIENCE_SECONDS) as trainer:
            told, weights = link.receive(trainer)
            if told["step"] != start:
                raise SystemExit(f"the trainer goes on from step {told['step']}, the orchestrator from {start}")
            for step in range(start + 1, given["max_steps"] + 1):
                problems = texts(given["seed"], step, given["problems"])
                asked = [text for text in problems for _ in range(given["samples"])]
                seed = number(given["seed"], "sampling", step)
                completions = inference.complete(asked, seed, told["step"], told["version"], weights)
                rewards = [reward(text, completion) for text, completion in zip(asked, completions, strict=True)]
                groups = [rewards[at : at + given["samples"]] for at in range(0, len(rewards), given["samples"])]
                worth = [each for group in groups for each in advantages(group)]
                run.log({"reward": sum(rewards) / len(rewards)}, step=step)
                progress["step"] = step
                progress["total_tokens"] += sum(map(len, asked)) + len(asked) + sum(map(len, completions))
                progress["total_samples"] += len(asked)
                progress["total_problems"] += len(problems)
                # The batch is shipped: that is what this part of the checkpoint says. The trainer's says that it was trained on.
                link.send(trainer, {"step": step, "texts": asked, "completions": completions, "advantages": worth})
                if checkpoints.should_save(step, is_last=step == given["max_steps"]):
                    checkpoints.save(step, state)
                told, weights = link.receive(trainer)
                print(f"step {step}: reward {sum(rewards) / len(rewards):.3f}", flush=True)
    print(f"weights were sent to the inference server {inference.sent} times", flush=True)
    return run


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (EOFError, ConnectionError):
        raise SystemExit("the trainer is gone") from None
    except runtree.Error as error:
        raise SystemExit(str(error)) from None
