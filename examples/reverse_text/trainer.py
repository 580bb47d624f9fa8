"""The trainer of the RL example: a step of policy gradient on each batch that the orchestrator ships. It is started by rl.py."""

import sys
from multiprocessing.connection import Listener

import link
import policy
import runtree
import runtree.torch
import settings
import torch


def make_optimizer(model, given):
    optimizer = torch.optim.AdamW(model.parameters(), lr=given["learning_rate"])
    # Over schedule_steps, not over max_steps: where this launch stops must not change how it learns until then.
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, given["schedule_steps"])


def main(argv):
    args = settings.parse_rl(argv, "trainer")
    given = args.settings
    policy.make_exact()
    model = policy.Policy(given["seed"])
    optimizer, scheduler = make_optimizer(model, given)
    progress = {"step": 0, "total_samples": 0, "total_tokens": 0}
    state = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "progress": progress}

    run = runtree.init(settings.PROJECT, run_id=args.run_id, resume="allow", fork=args.fork, base=args.base, config=args.config)
    with (
        run,
        runtree.Checkpointer(run, args.ckpt, component="trainer", parts=settings.PARTS) as checkpoints,
        Listener(str(args.link)) as listener,
    ):
        start = checkpoints.resume(state)
        if start is None and args.base:
            run.load(run.store.checkpoint(args.base), into={"model": model}, keys=["model", "model.*"])
        start = start or 0
        if run.fork_step is not None:
            # A fork trains at the rate and the schedule that it was given; where they are the same, nothing changes by a bit.
            saved = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
            optimizer, scheduler = make_optimizer(model, given)
            runtree.torch.restore(saved, optimizer=optimizer, scheduler=scheduler, keep=("lr", "T_max"))
            state.update(optimizer=optimizer, scheduler=scheduler)

        def weights_after(step):
            data = policy.write_weights(model)
            return {"step": step, "version": policy.version_of(step, data)}, data

        with listener.accept() as orchestrator:
            link.send(orchestrator, *weights_after(start))
            for step in range(start + 1, given["max_steps"] + 1):
                batch, _ = link.receive(orchestrator)
                if batch["step"] != step:
                    raise SystemExit(f"this is the batch of step {batch['step']}, not of {step}")
                texts, completions = batch["texts"], batch["completions"]
                loss = model.loss(texts, completions, batch["advantages"])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                run.log({"loss": loss.item(), "lr": scheduler.get_last_lr()[0]}, step=step)
                scheduler.step()
                progress["step"] = step
                progress["total_samples"] += len(texts)
                progress["total_tokens"] += policy.count_tokens(texts, completions)
                if checkpoints.should_save(step, is_last=step == given["max_steps"]):
                    checkpoints.save(step, state)
                link.send(orchestrator, *weights_after(step))
    return run


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (EOFError, ConnectionError):
        raise SystemExit("the orchestrator is gone") from None
    except runtree.Error as error:
        raise SystemExit(str(error)) from None
