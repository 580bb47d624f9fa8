"""The command lines: a flag wins over a file, a file over what stands here."""

import argparse
from pathlib import Path

import runtree

PROJECT = "reverse-text"
#: What makes one checkpoint of the RL example.
PARTS = {"trainer": 1, "orchestrator": 1}
#: Where the inference server is unless told otherwise.
INFERENCE = "127.0.0.1:8765"

SFT = {"max_steps": 40, "schedule_steps": 40, "learning_rate": 1e-2, "batch": 32, "texts": 512, "seed": 7}
RL = {
    "trainer": {"max_steps": 20, "schedule_steps": 20, "learning_rate": 5e-3, "seed": 7},
    "orchestrator": {"max_steps": 20, "problems": 8, "samples": 8, "seed": 7, "inference": INFERENCE},
}
# Where a launch stops and whom it asks is nothing that a run is known by.
_NOT_OF_THE_RUN = ("max_steps", "inference")


def parse_sft(argv):
    """Arguments of sft.py: see `_parse`."""
    args = _parse(argv, "sft", ())
    args.settings = _settled(args, args.settings, SFT)
    args.config = _config(args.settings)
    args.ckpt = runtree.CheckpointConfig.from_arguments(args)
    return args


def parse_rl(argv, component):
    """Arguments of a process of the RL example: see `_parse`. Files are given as `--trainer @ FILE`, `--orchestrator @ FILE`."""
    args = _parse(argv, "rl", tuple(PARTS))
    settled = {each: _settled(args, {**args.settings, **getattr(args, each)}, RL[each]) for each in PARTS}
    args.settings = settled[component]
    # The same in both processes: the first of them makes the run.
    args.config = _config({**settled["orchestrator"], **settled["trainer"]})
    args.ckpt = runtree.CheckpointConfig.from_arguments(args, component)
    return args


def _parse(argv, run_id, components):
    """Has `settings`, `config` (those of them that the run has), `ckpt` (the block or None), `run_id`, `fork`, `base`, `link`."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--max-steps", type=int, help="where training stops; the schedule does not depend on it")
    parser.add_argument("--schedule-steps", type=int, help="over how many steps the learning rate falls")
    parser.add_argument("--learning-rate", type=float, help="the rate that it falls from")
    parser.add_argument("--run-id", default=run_id, help="the run; the same name is the same run")
    if components:
        parser.add_argument("--fork", help="the checkpoint that a new run is forked from, like rl@10")
        parser.add_argument("--base", help="the checkpoint whose weights a new run begins with, like sft@40")
        parser.add_argument("--inference", help=f"HOST:PORT of the inference server, unless {INFERENCE}")
        parser.add_argument("--link", type=Path, help="where trainer and orchestrator meet; rl.py says it")
    runtree.CheckpointConfig.add_arguments(parser, components=components)
    return parser.parse_args(argv)


def _settled(args, files, defaults):
    files = {name.replace("-", "_"): value for name, value in files.items()}
    unknown = [name for name in files if name not in defaults]
    if unknown:
        raise SystemExit(f"unknown settings in a file: {', '.join(unknown)}; there are {', '.join(defaults)}")
    flags = {name: getattr(args, name) for name in defaults if getattr(args, name, None) is not None}
    return {**defaults, **files, **flags}


def _config(settled):
    return {name: value for name, value in settled.items() if name not in _NOT_OF_THE_RUN}
