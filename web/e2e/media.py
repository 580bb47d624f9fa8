"""A store's project for the tests of media: a run, a fork of it, and a run of ranks of which one failed. Needs no library but runtree."""

from __future__ import annotations

import logging
import math
import random
import struct
import sys
import zlib

import runtree


def png(width: int, height: int, step: int, hue: int) -> bytes:
    """Rings that grow with the step."""
    rows = b""
    for y in range(height):
        rows += b"\0"
        for x in range(width):
            distance = math.hypot(x - width / 2, y - height / 2)
            light = int(128 + 127 * math.sin(distance / 3 - step / 4))
            rows += bytes((light, (light * hue // 255) % 256, 255 - light))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def train(run: runtree.Run, steps: range, hue: int) -> None:
    dice = random.Random(hue)
    for step in steps:
        run.log({"loss": math.exp(-step / 30)}, step=step)
        if step % 10 == 0:
            values = [dice.gauss(step / 50, 1 + step / 40) for _ in range(2000)]
            run.log(
                {
                    "samples/rings": [runtree.Image(png(48, 48, step + n, hue), caption=f"sample {n} at {step}") for n in range(6)],
                    "samples/wide": runtree.Image(png(160, 60, step, 255 - hue)),
                    "weights/conv1": runtree.Histogram(values, bins=48),
                    "answer": f"step {step}: the quick brown fox\njumps over <b>the lazy dog</b>",
                    "predictions": runtree.Table(
                        columns=["id", "prompt", "score", "right"],
                        rows=[[n, f"question {n}", math.nan if n == 3 else dice.random(), n % 2 == 0] for n in range(120)],
                    ),
                },
                step=step,
            )
        if step % 25 == 0:
            run.log({"drawing": runtree.File(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", name="drawing.svg")}, step=step)


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True)
    parent = runtree.init("media", name="rings", system_metrics=True)
    logging.info("training begins")
    print("plain line")
    logging.warning("the learning rate is high")
    logging.error("one sample could not be read")
    train(parent, range(0, 101), 90)
    parent.alert("loss is flat", "it has not moved for 50 steps", level="warn")
    parent.alert("disk is nearly full", level="error")
    parent.notes = "rings that grow"
    parent.finish()
    child = runtree.init("media", name="rings-blue", fork_run_id=parent.id, fork_step=60, system_metrics=False)
    train(child, range(61, 121), 200)
    child.finish()


main()
