"""A checkpoint to a bucket and back, beside a plain client that moves the same bytes as files.

The plain side is obstore: the Rust client that runtree's buckets are built on, without runtree. boto3 is slower by itself.
Both read from files what they send, write to files and fsync what they get, and keep 16 requests going.
"""

import itertools
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import obstore
import runtree
from obstore.store import S3Store

from measure import Report, fsync_tree, median_seconds

CHUNK = 64 << 20
REQUESTS = 16
PART = 16 << 20
_fresh = itertools.count()


def bench(report: Report, folder: Path, size: int, repeat: int) -> None:
    """Push and pull of `size` bytes in chunks of 64 MiB."""
    report.section(f"transfer: {size >> 20} MiB in chunks of 64 MiB, {REQUESTS} requests at once, a server on this machine")
    bucket = os.environ.get("RUNTREE_TEST_BUCKET")
    if not bucket:
        report.row("NOT MEASURED", "", "there is no bucket: scripts/with-s3 python bench/bench.py")
        return
    folder = folder / "transfer"
    store, files = prepare(folder, size)
    client = S3Store.from_url(
        f"{bucket}/bench-plain-{os.getpid()}",
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        region=os.environ["AWS_REGION"],
        client_options={"allow_http": True, "timeout": "120s"},
    )

    def place() -> str:
        return f"{bucket}/bench-{os.getpid()}-{next(_fresh)}"

    def push() -> float:
        there = runtree.Store(place(), create=True)
        return seconds(lambda: store.push(there))

    def put() -> float:
        prefix = next(_fresh)
        return seconds(lambda: at_once(lambda file: obstore.put(client, f"{prefix}/{file.name}", file, use_multipart=False), files))

    def put_parts() -> float:
        prefix = next(_fresh)
        # In parts of 16 MiB; the requests of all files together are as many as everywhere here.
        each = max(1, REQUESTS // len(files))
        return seconds(
            lambda: at_once(
                lambda file: obstore.put(
                    client, f"{prefix}/{file.name}", file, use_multipart=True, chunk_size=PART, max_concurrency=each
                ),
                files,
            )
        )

    source = runtree.Store(place(), create=True)
    store.push(source)
    at_once(lambda file: obstore.put(client, file.name, file, use_multipart=False), files)

    def pull() -> float:
        home = runtree.Store(folder / "home", create=True)
        took = seconds(lambda: home.pull(source))
        shutil.rmtree(folder / "home")
        return took

    def get() -> float:
        (folder / "got").mkdir()

        def fetch(file: Path) -> None:
            (folder / "got" / file.name).write_bytes(obstore.get(client, file.name).bytes())

        def fetch_all() -> None:
            at_once(fetch, files)
            fsync_tree(folder / "got")

        took = seconds(fetch_all)
        shutil.rmtree(folder / "got")
        return took

    for what, sides in {
        "push": {"runtree": push, "plain": put, "plain in parts": put_parts},
        "pull": {"runtree": pull, "plain": get},
    }.items():
        took = median_seconds(sides, repeat)
        for side, value in took.items():
            report.row(f"{what}, {side}", f"{size / value / (1 << 20):.0f} MiB/s")
        fastest = min(value for side, value in took.items() if side != "runtree")
        report.verdict(
            f"{what} / the fastest plain {'PUT' if what == 'push' else 'GET'}",
            fastest / took["runtree"],
            0.8,
            unit="x",
            smaller=False,
        )
    shutil.rmtree(folder)


def prepare(folder: Path, size: int) -> tuple[runtree.Store, list[Path]]:
    """A local store with one checkpoint, and its bytes as files."""
    random = np.random.default_rng(0)
    state = {f"w{at}": random.integers(0, 256, CHUNK, dtype=np.uint8) for at in range(size // CHUNK)}
    with runtree.init("transfer", store=folder / "store", console=False, system_metrics=False, environment=False) as run:
        run.save(state, step=0).result()
    (folder / "files").mkdir()
    for name, values in state.items():
        values.tofile(folder / "files" / name)
    fsync_tree(folder)
    return runtree.Store(folder / "store"), sorted((folder / "files").iterdir())


def at_once(work: Callable[[Path], object], files: list[Path]) -> None:
    with ThreadPoolExecutor(REQUESTS) as pool:
        list(pool.map(work, files))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
