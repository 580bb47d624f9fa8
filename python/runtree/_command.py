"""The ``runtree`` command."""

from __future__ import annotations

import os
import signal
import sys

from runtree import _native


def main() -> None:
    """Runs the command line of the native module."""
    # The command is a native program: Ctrl-C and a closed pipe end it as they end any other.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # `runtree train` executes a configuration with the interpreter that has this package.
    os.environ.setdefault("RUNTREE_PYTHON", sys.executable)
    sys.exit(_native.main(["runtree", *sys.argv[1:]]))
