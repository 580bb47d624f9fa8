"""``python -m runtree.compat.truss_train config.py``: what ``runtree train`` runs."""

import sys

from runtree.compat.truss_train.running import main

sys.exit(main(sys.argv[1:]))
