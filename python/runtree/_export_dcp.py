"""``python -m runtree.torch export-dcp REF DIR``: the layout that only torch can write."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from runtree.errors import Error
from runtree.store import Store


def main(arguments: list[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m runtree.torch", description="What needs torch.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    export = commands.add_parser(
        "export-dcp", help="write a checkpoint as a directory that torch.distributed.checkpoint loads"
    )
    export.add_argument("reference", metavar="REF", help="a checkpoint: run@step, run@latest")
    export.add_argument("directory", metavar="DIR", type=Path)
    export.add_argument("--store", help="the store; else RUNTREE_STORE, else the nearest .runtree upwards")
    given = parser.parse_args(arguments)
    from runtree.torch import export_dcp

    try:
        print(export_dcp(given.reference, given.directory, store=Store(given.store)))
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
