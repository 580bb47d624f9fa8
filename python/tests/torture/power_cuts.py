"""Power cuts on real file systems: ext4 and XFS on loop devices are shut down under two savers, mounted again and checked.

`EXT4_IOC_SHUTDOWN` / `XFS_IOC_GOINGDOWN` without log flush: what was not fsynced is gone, as after a power cut. Needs root
and loop devices.
Run by `make power-cuts` (short) and `make torture`.
"""

import argparse
import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from torture import saver
from torture.test_kill import check_in_child, launch, read_all

SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), the same number on ext4 and XFS
NO_LOG_FLUSH = 2


class Disk:
    """A file system in a file."""

    def __init__(self, kind, folder):
        self.kind, self.image, self.mount = kind, folder / f"{kind}.img", folder / kind
        self.mount.mkdir()
        with self.image.open("wb") as image:
            image.truncate(1 << 30)
        self.make()

    def make(self):
        command = ["mkfs.ext4", "-q", "-F"] if self.kind == "ext4" else ["mkfs.xfs", "-q", "-f"]
        subprocess.run([*command, str(self.image)], check=True)

    def attach(self):
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.mount)], check=True)

    def cut(self):
        fd = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def detach(self):
        for _ in range(50):
            if subprocess.run(["umount", str(self.mount)], stderr=subprocess.DEVNULL, check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"{self.mount} stays busy")


def possible():
    """Why this can not run here, or None."""
    if os.geteuid() != 0:
        return "not root"
    if not shutil.which("mkfs.xfs") or not shutil.which("mkfs.ext4"):
        return "mkfs.xfs or mkfs.ext4 is not installed"
    if subprocess.run(["losetup", "-f"], capture_output=True, check=False).returncode != 0:
        return "no free loop device"
    return None


def one_cut(disk, rng, names, saved):
    """Two savers, one cut at a random moment, a remount and the check. Returns how many acknowledged checkpoints were checked."""
    os.environ["RUNTREE_STORE"] = str(disk.mount / "store")
    disk.attach()
    children = {name: launch(name, rng.randrange(1 << 30)) for name in names}
    time.sleep(0.2 + rng.random() * 0.8)
    disk.cut()
    died_at = time.time()
    for name, (pid, pipe) in children.items():
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        acknowledged, logged, wrong = saver.parse(read_all(pipe))
        # After the cut every write fails with EIO: the saver is told, and dies; before it nothing may go wrong.
        assert all("put/output" in text or "nput/output" in text or "EIO" in text for text in wrong), f"{name}: {wrong}"
        saved[name] |= acknowledged
        children[name] = logged
    disk.detach()
    disk.attach()
    try:
        for name in names:
            if saved[name]:
                assert check_in_child(os.environ["RUNTREE_STORE"], name, saved[name], children[name], died_at) == 0
    finally:
        disk.detach()
    return sum(map(len, saved.values()))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cuts", type=int, default=50)
    args = parser.parse_args()
    if reason := possible():
        print(f"power cuts: NOT RUN here ({reason})")
        return
    seed = int(os.environ.get("RUNTREE_SEED", random.randrange(1 << 30)))
    print(f"RUNTREE_SEED={seed}")
    rng = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="runtree-cuts-"))
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    try:
        for kind in ("ext4", "xfs"):
            disk = Disk(kind, folder)
            checked, half = 0, args.cuts // 2
            for cut in range(half):
                if cut % 10 == 0:
                    disk.make()
                    names = [f"{kind}-left-{cut}", f"{kind}-right-{cut}"]
                    saved = {name: set() for name in names}
                checked = max(checked, one_cut(disk, rng, names, saved))
            print(
                f"power cuts: {half} on {kind}, up to {checked} acknowledged checkpoints at once, none lost", flush=True
            )
    finally:
        for kind in ("ext4", "xfs"):
            subprocess.run(["umount", "-l", str(folder / kind)], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
