"""``python -m runtree``: the command, where the script is not on the path."""

from runtree._command import main

main()
