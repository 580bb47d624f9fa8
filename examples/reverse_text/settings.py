"""The command lines: a flag wins over a file, a file over what stands here."""

import argparse
from pathlib import Path

import runtree

PROJECT = "reverse-text"
#: What makes one checkpoint of the RL example.
PARTS = {"trainer": 1, "orchestrator": 1}
#: Where the inference server is unless told otherwise.
INFERENCE = "127.0.0.1:8765"

SFT = {"max_steps": 40, "schedule_steps": 40, "learning_rate": 3e-3, "batch": 32, "texts": 512, "seed": 7}
RL = {"max_steps": 20, "schedule_steps": 20}
TRAINER = {**RL, "learning_rate": 1e-3, "seed": 7}
ORCHESTRATOR = {**RL, "problems": 8, "samples": 8, "seed": 7, "inference": INFERENCE}


def parse(argv, defaults, component=None):
    """Arguments of a process: `settings` as a dict, `ckpt` (the block or None), `run_id`, `fork`, `link`.

    With a component, files are given as `--trainer @ FILE`, `--orchestrator @ FILE`; each process reads its own of both.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--max-steps", type=int, help="where training stops; the schedule does not depend on it")
    parser.add_argument("--schedule-steps", type=int, help="over how many steps the learning rate falls")
    parser.add_argument("--learning-rate", type=float, help="the rate that it falls from")
    parser.add_argument("--inference", help="HOST:PORT of the inference server")
    parser.add_argument("--run-id", default="rl" if component else "sft", help="the run; the same name is the same run")
    parser.add_argument("--fork", help="the checkpoint that a new run is forked from, like RT-1@10")
    parser.add_argument("--link", type=Path, help="where trainer and orchestrator meet; the launcher says it")
    runtree.CheckpointConfig.add_arguments(parser, components=tuple(PARTS) if component else ())
    args = parser.parse_args(argv)
    args.ckpt = runtree.CheckpointConfig.from_arguments(args, component)
    files = {**args.settings, **(getattr(args, component) if component else {})}
    flags = {name: getattr(args, name) for name in defaults if getattr(args, name, None) is not None}
    unknown = [name for name in files if name.replace("-", "_") not in defaults]
    if unknown:
        parser.error(f"the files have unknown settings: {', '.join(unknown)}")
    args.settings = {**defaults, **{name.replace("-", "_"): value for name, value in files.items()}, **flags}
    return args
