"""RL: starts a trainer and an orchestrator as one launch, and ends with them. The inference server is started apart from it.

python inference.py
python rl.py --trainer @ train.toml --orchestrator @ orch.toml --max-steps 10 --ckpt
python rl.py --trainer @ train.toml --orchestrator @ orch.toml --max-steps 20 --ckpt.resume-step 10
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import runtree
import settings

HERE = Path(__file__).parent
# How long the other one may take to end when one has failed: what it had saved is still being written.
GRACE_SECONDS = 30.0


def main(argv):
    """Returns the exit code: 0, or that of the process that failed first."""
    # What is wrong, also between the two, is told here, once.
    settings.parse_rl(argv, "trainer")
    # What runtree knows a launch by. Without it the second process would be another launch of the run.
    environ = {**os.environ, "RUNTREE_ATTEMPT": uuid.uuid4().hex}
    with tempfile.TemporaryDirectory() as place:
        processes = [
            subprocess.Popen([sys.executable, str(HERE / f"{each}.py"), *argv, "--link", f"{place}/trainer"], env=environ)
            for each in settings.PARTS
        ]
        signal.signal(signal.SIGTERM, lambda *_: [each.terminate() for each in processes])
        try:
            return wait(processes)
        except KeyboardInterrupt:
            # The terminal has told all of them.
            wait_for(processes)
            return 130
        finally:
            for each in processes:
                each.kill()


def wait(processes):
    while True:
        codes = [each.poll() for each in processes]
        failed = [code for code in codes if code]
        if failed:
            # The one that is left sees that the other is gone, unless it still waits for its first word.
            for each in processes:
                each.terminate()
            wait_for(processes)
            return failed[0] if failed[0] > 0 else 128 - failed[0]
        if None not in codes:
            return 0
        time.sleep(0.05)


def wait_for(processes):
    deadline = time.monotonic() + GRACE_SECONDS
    while None in [each.poll() for each in processes] and time.monotonic() < deadline:
        time.sleep(0.05)


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except runtree.Error as error:
        raise SystemExit(str(error)) from None
