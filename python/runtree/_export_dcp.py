"""The layout that only torch can write: a directory that plain ``dcp.load`` reads. ``python -m runtree.torch export-dcp REF DIR``."""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportPrivateUsage=false, reportUnknownParameterType=false, reportMissingParameterType=false
# pyright: reportPrivateImportUsage=false, reportAttributeAccessIssue=false

from __future__ import annotations

import argparse
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import DefaultSavePlanner, FileSystemWriter, SavePlan
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType

from runtree import _ranks
from runtree._dcp_reader import StorageReader
from runtree.checkpoint import Checkpoint
from runtree.errors import Conflict, Error
from runtree.store import Store

# Bytes of a tensor that are held at a time.
_EXPORT_BYTES = 256 << 20


class _ExportPlanner(DefaultSavePlanner):
    """Plans to write everything a reader has, and reads each piece when it is written."""

    def __init__(self, reader: StorageReader, metadata: Metadata) -> None:
        super().__init__()
        self._reader = reader
        self._read = metadata

    def set_up_planner(
        self, state_dict: Any, storage_meta: StorageMeta | None = None, is_coordinator: bool = False
    ) -> None:
        self.state_dict = {}
        self.mappings = self._read.planner_data
        self.is_coordinator = is_coordinator

    def create_local_plan(self) -> SavePlan:
        items: list[WriteItem] = []
        for fqn, stored in self._read.state_dict_metadata.items():
            if isinstance(stored, BytesStorageMetadata):
                items.append(WriteItem(index=MetadataIndex(fqn), type=WriteItemType.BYTE_IO))
                continue
            for place, chunk in enumerate(_windows(stored)):
                data = TensorWriteData(chunk=chunk, properties=stored.properties, size=stored.size)
                index = MetadataIndex(fqn, chunk.offsets, place)
                items.append(WriteItem(index=index, type=WriteItemType.SHARD, tensor_data=data))
        self.plan = SavePlan(items, planner_data=self.mappings)
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> Any:
        reader, fqn = self._reader, write_item.index.fqn
        whole = reader._whole
        assert whole is not None
        stored = reader._flat[fqn]
        if write_item.type == WriteItemType.BYTE_IO:
            return reader.bytes_of(fqn, stored)
        assert write_item.tensor_data is not None
        assert write_item.tensor_data.chunk is not None
        chunk = write_item.tensor_data.chunk
        if stored.runtree_view is not None:
            return whole.value(fqn).contiguous()
        made = torch.empty(chunk.sizes, dtype=stored.dtype)
        strides = list(made.stride())
        whole.read([_ranks.Box(stored.runtree_index, list(chunk.offsets), list(chunk.sizes), made.data_ptr(), strides)])
        return made


def _windows(stored: TensorStorageMetadata) -> Iterator[ChunkStorageMetadata]:
    """The tensor, cut along its first dimension into pieces that fit into memory."""
    size = stored.size
    rows = size[0] if len(size) else 1
    item = torch.empty((), dtype=stored.properties.dtype).element_size()
    row = item * (size.numel() // rows if rows else 0)
    step = max(1, min(rows, _EXPORT_BYTES // max(1, row))) if rows else 1
    if not len(size) or step >= rows:
        yield ChunkStorageMetadata(torch.Size([0] * len(size)), size)
        return
    for at in range(0, rows, step):
        sizes = torch.Size([min(step, rows - at), *size[1:]])
        yield ChunkStorageMetadata(torch.Size([at, *[0] * (len(size) - 1)]), sizes)


def export_dcp(checkpoint: Checkpoint | str, dir: str | os.PathLike[str], *, store: Any = None) -> Path:
    """Writes a checkpoint as a directory that plain ``dcp.load(state, checkpoint_id=dir)`` reads.

    Needs no process group, and a window of memory at a time. ``.metadata``, a pickle, is torch's own, written by torch. The
    directory appears whole or not at all, and overwrites nothing.

    ``checkpoint`` may be a REF in ``store``. Raises ``Conflict`` if something is there.
    """
    found = checkpoint if isinstance(checkpoint, Checkpoint) else (store or Store()).checkpoint(checkpoint)
    target = Path(dir)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Conflict(f"{target} exists and is not empty", hint="export into a directory that does not exist yet")
    reader = StorageReader(found, per_rank="modulo")
    metadata = reader.read_metadata()
    temporary = target.parent / f".{target.name}.runtree-{uuid.uuid4().hex[:16]}"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        writer = FileSystemWriter(temporary, single_file_per_rank=True, sync_files=True, thread_count=1)
        _save_alone(writer, _ExportPlanner(reader, metadata))
        if target.exists():
            target.rmdir()
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _save_alone(writer: FileSystemWriter, planner: _ExportPlanner) -> None:
    """What ``dcp.save`` does in one process, without its warning that it is one."""
    planner.set_up_planner({}, None, True)
    writer.set_up_storage_writer(True)
    local = writer.prepare_local_plan(planner.create_local_plan())
    plans, metadata = planner.create_global_plan([local])
    plan = planner.finish_plan(writer.prepare_global_plan(plans)[0])
    written = writer.write_data(plan, planner)
    written.wait()
    writer.finish(metadata=metadata, results=[written.value()])


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
    try:
        print(export_dcp(given.reference, given.directory, store=Store(given.store)))
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
