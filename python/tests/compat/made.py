"""Adapters, what ART would have written, buckets: what the tests of ``runtree.compat.art`` start from."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import struct
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy

import runtree
from runtree.compat import art

BASE = "OpenPipe/Qwen3-14B-Instruct"
#: What `runtree.init` of a backend leaves out in tests.
QUIET = {"console": False, "system_metrics": False, "environment": False}


def safetensors(value: float, numbers: int = 1000) -> bytes:
    """A file of one tensor, all of whose elements are ``value``."""
    data = numpy.full(numbers, value, "f4").tobytes()
    header = json.dumps({"lora_A": {"dtype": "F32", "shape": [numbers], "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


def write_adapter(directory: Path, value: float, *, rank: int = 8, base_model: str = BASE) -> Path:
    """A LoRA adapter whose weights are all ``value``."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "adapter_model.safetensors").write_bytes(safetensors(value))
    config = {"peft_type": "LORA", "r": rank, "base_model_name_or_path": base_model}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def value_of(directory: Path) -> float:
    """The value of an adapter's weights."""
    data = (directory / "adapter_model.safetensors").read_bytes()
    [value] = set(numpy.frombuffer(data[8 + struct.unpack("<Q", data[:8])[0] :], "f4").tolist())
    return value


def value_at(model: art.TrainableModel) -> float:
    """The value of a model's newest weights."""
    assert model.run is not None
    return value_of(model.run.dir())


def write_art(
    root: Path,
    name: str,
    steps: Mapping[int, float],
    *,
    project: str = "p",
    base_model: str | None = BASE,
    history: Iterable[str | Mapping[str, Any]] = (),
    rank: int = 8,
) -> Path:
    """A model as ART leaves it: directories of steps, ``model.json``, rows of ``history.jsonl``. Returns its directory."""
    directory = root / project / "models" / name
    directory.mkdir(parents=True, exist_ok=True)
    for step, value in steps.items():
        write_adapter(directory / "checkpoints" / f"{step:04d}", value, rank=rank)
    if base_model is not None:
        (directory / "model.json").write_text(json.dumps({"name": name, "base_model": base_model}))
    rows = [row if isinstance(row, str) else json.dumps(row) for row in history]
    if rows:
        (directory / "history.jsonl").write_text("\n".join(rows) + "\n")
    return directory


def write_run(
    name: str,
    steps: Mapping[int, float],
    *,
    project: str = "p",
    store: str | Path | None = None,
    points: Mapping[int, Mapping[str, float]] | None = None,
    config: Mapping[str, Any] | None = None,
    rank: int = 8,
    adapters: Path | None = None,
) -> runtree.StoredRun:
    """A model as a run, by ``runtree.init`` alone."""
    config = {"base_model": BASE} if config is None else config
    run = runtree.init(project, name, run_id=name, resume="allow", store=store, remote="", config=config, **QUIET)
    for step, values in (points or {}).items():
        run.log(values, step=step)
    for step, value in steps.items():
        directory = write_adapter((adapters or Path("adapters")) / f"{name}-{step}", value, rank=rank)
        run.save_dir(directory, step=step).result()
    run.finish()
    return runtree.Store(store).run(run.id)


def model(name: str, project: str = "p", **fields: Any) -> art.TrainableModel:
    """A model."""
    return art.TrainableModel(name=name, project=project, **{"base_model": BASE, **fields})


def add_one(update: art.Update) -> dict[str, float]:
    """A trainer: each update adds one to the weights."""
    before = 0.0 if update.current is None else value_of(update.current)
    write_adapter(update.target, before + 1)
    return {"learning_rate": update.config.learning_rate}


def put(bucket: str, key: str, data: bytes = b"") -> None:
    """Makes a bucket (without a key) or puts an object: a request signed by AWS's version 4."""
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    access, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    region = os.environ["AWS_REGION"]
    now = datetime.now(timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    path = urllib.parse.quote(f"/{bucket}/{key}" if key else f"/{bucket}")
    content = hashlib.sha256(data).hexdigest()
    headers = {"host": endpoint.split("://", 1)[1], "x-amz-content-sha256": content, "x-amz-date": stamp}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    scope = f"{day}/{region}/s3/aws4_request"
    request = hashlib.sha256(f"PUT\n{path}\n\n{lines}\n{names}\n{content}".encode()).hexdigest()
    signing = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        signing = hmac.new(signing, part.encode(), hashlib.sha256).digest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{request}"
    signature = hmac.new(signing, text.encode(), hashlib.sha256).hexdigest()
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    sent = urllib.request.Request(f"{endpoint}{path}", data or None, headers, method="PUT")
    with urllib.request.urlopen(sent, timeout=30):
        pass


def put_tree(bucket: str, prefix: str, root: Path) -> None:
    """Puts all files below a directory, as ``aws s3 sync`` would."""
    for path in sorted(root.rglob("*")):
        if path.is_file():
            put(
                bucket,
                "/".join(part for part in (prefix, path.relative_to(root).as_posix()) if part),
                path.read_bytes(),
            )
