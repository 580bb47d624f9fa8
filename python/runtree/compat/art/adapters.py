"""LoRA adapters in directories: whether one is whole, what it belongs to, whether two are the same.

What ART writes step by step into its final directory is torn if the process dies, and nothing marks it as whole. So the files
are looked into; they are not trusted: every length is checked before it is used, and nothing is run (a ``.bin`` is a pickle).
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple, cast

CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
# The format's own bound of a header.
_LONGEST_HEADER = 100_000_000
# A config has some hundred bytes; what is larger is no config.
_LONGEST_CONFIG = 1 << 20


class AdapterFacts(NamedTuple):
    """What an adapter says of itself; None where it does not."""

    base_model: str | None
    rank: int | None


def is_candidate(files: dict[str, int]) -> str | None:
    """Why a directory with files of these sizes can be no whole adapter; None if only its bytes can tell."""
    if not files:
        return "empty"
    if not files.get(CONFIG):
        return f"no {CONFIG}"
    is_sharded = any(name.startswith("adapter_model") and name.endswith(".index.json") for name in files)
    if not is_sharded and not any(files.get(name) for name in _WEIGHTS):
        return "no weights (adapter_model.safetensors)"
    return None


def find_problem(directory: Path) -> str | None:
    """Why a directory is no whole adapter; None if it is one."""
    try:
        files = {path.name: path.stat().st_size for path in directory.iterdir() if path.is_file()}
        problem = is_candidate(files)
        if problem is not None:
            return problem
        if _read_object(directory / CONFIG) is None:
            return f"{CONFIG} is no JSON object"
        for index in (name for name in files if name.endswith(".safetensors.index.json")):
            missing = _missing_shards(directory / index, files)
            if missing:
                return missing
        for name, size in sorted(files.items()):
            problem = None
            if name.endswith(".safetensors"):
                problem = _torn_safetensors(directory / name, size)
            elif name.endswith(".bin"):
                problem = _torn_zip(directory / name)
            if problem is not None:
                return f"{name} {problem}"
    except OSError as error:
        return f"it can not be read: {error.strerror or error}"
    return None


def read_facts(directory: Path) -> AdapterFacts:
    """What the adapter in a directory says it was made for."""
    config = _read_object(directory / CONFIG) or {}
    base, rank = config.get("base_model_name_or_path"), config.get("r")
    return AdapterFacts(
        base if isinstance(base, str) and base else None,
        rank if isinstance(rank, int) and not isinstance(rank, bool) else None,
    )


def digest(directory: Path) -> str:
    """A hash of all names, contents and links below a directory: equal if and only if the directories are."""
    whole = hashlib.blake2b(digest_size=32)
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink():
            kind, content = b"l", hashlib.blake2b(str(path.readlink()).encode()).digest()
        elif path.is_dir():
            continue
        else:
            kind, content = b"f", _hash_file(path)
        whole.update(kind + str(len(name)).encode() + b":" + name.encode() + content)
    return whole.hexdigest()


def _hash_file(path: Path) -> bytes:
    found = hashlib.blake2b()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.digest()


def _read_object(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > _LONGEST_CONFIG:
            return None
        found: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _missing_shards(index: Path, files: dict[str, int]) -> str | None:
    places = (_read_object(index) or {}).get("weight_map")
    if not isinstance(places, dict):
        return f"{index.name} is no index"
    wanted = {str(name) for name in cast("dict[str, Any]", places).values()}
    missing = sorted(wanted - files.keys())
    return f"{missing[0]} is missing, which {index.name} names" if missing else None


def _torn_safetensors(path: Path, size: int) -> str | None:
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > size - 8 or length > _LONGEST_HEADER:
            return "is torn: its header is longer than the file"
        try:
            header: Any = json.loads(file.read(length))
            tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
            end = max((int(tensor["data_offsets"][1]) for tensor in tensors), default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            return "has a header that can not be read"
    if 8 + length + end != size:
        return f"is torn: it has {size} bytes, its header says {8 + length + end}"
    return None


def _torn_zip(path: Path) -> str | None:
    # A zip ends with its list of files: what begins like one and does not end like one was cut off.
    with path.open("rb") as file:
        begins = file.read(4) == b"PK\x03\x04"
    return "is torn: the end of the zip is missing" if begins and not zipfile.is_zipfile(path) else None
