"""torch.distributed.checkpoint on runtree: torch's documented ways to save, load and reshard; and what its own storage loses."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_sharded_load import torchrun

import runtree

torch = pytest.importorskip("torch")
dcp: Any = pytest.importorskip("torch.distributed.checkpoint")
pytestmark = [
    pytest.mark.timeout(600),
    # What torch says about itself: that it is alone, that it uses typed storages.
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch.*"),
]

SAVE = """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
    from torch.distributed.checkpoint.stateful import Stateful
    from runtree.torch import AsyncStager, StorageReader, StorageWriter
    out = os.environ["OUT"]
    run = runtree.init("p", name="dcp", run_id="dcp", console=False, system_metrics=False)

    class App(Stateful):
        def __init__(self, model, optimizer):
            self.model, self.optimizer = model, optimizer
        def state_dict(self):
            model, optimizer = get_state_dict(self.model, self.optimizer)
            return {"model": model, "optim": optimizer}
        def load_state_dict(self, state):
            set_state_dict(self.model, self.optimizer, model_state_dict=state["model"], optim_state_dict=state["optim"])

    model, optimizer = make(0)
    train(model, optimizer, 2)
    app = App(model, optimizer)
    def snapshot(name):
        np.savez(f"{out}/{name}{rank}.npz", **{key: full(each) for key, each in model.state_dict().items()})

    # 1. dcp.save, with the run's name and the step in the id.
    writer = StorageWriter(run)
    state = {"app": app, "step": 10, "words": ["a", "b"], "list": [torch.arange(3), {"x": torch.ones(2)}]}
    metadata = dcp.save(state, storage_writer=writer, checkpoint_id="dcp/step-10")
    assert [each.step for each in run.checkpoints()] == [10], "committed when save returns, on every rank"
    assert (writer.checkpoint is not None) == (rank == 0)
    snapshot("ten")

    # 2. Plan caching, several steps, one writer.
    for step in (11, 12, 13):
        train(model, optimizer, 1)
        planner = dcp.DefaultSavePlanner(enable_plan_caching=True)
        dcp.save({"app": app}, storage_writer=writer, checkpoint_id=f"step-{step}", planner=planner)
    snapshot("thirteen")

    # 3. dcp.async_save on our arena; training goes on meanwhile.
    # Its collectives run beside those of training, so they need a group of their own.
    group = dist.new_group(backend="gloo")
    stager = AsyncStager()
    for step in (20, 21):
        train(model, optimizer, 1)
        snapshot(f"async{step}")
        saving = dcp.async_save(
            {"app": app, "step": step}, storage_writer=StorageWriter(run), checkpoint_id=f"x/step_{step}",
            async_stager=stager, process_group=group,
        )
        train(model, optimizer, 1)
        saving.result()
    # And with torch's own stager.
    train(model, optimizer, 1)
    snapshot("async22")
    dcp.async_save({"app": app}, storage_writer=StorageWriter(run), checkpoint_id="22", process_group=group).result()
    stager.close()

    # 4. The same step again: the newest counts.
    dcp.save({"app": app}, storage_writer=writer, checkpoint_id="step-10")
    snapshot("again")
    dist.barrier()
    assert [each.step for each in run.checkpoints()] == [10, 10, 11, 12, 13, 20, 21, 22]

    # 5. Loaded in place by the ranks that saved it.
    train(model, optimizer, 2)
    dcp.load({"app": app}, storage_reader=StorageReader(run), checkpoint_id="step-13")
    thirteen = np.load(f"{out}/thirteen{rank}.npz")
    assert all(np.array_equal(full(each), thirteen[key]) for key, each in model.state_dict().items())

    # 6. What run.save wrote, dcp.load reads.
    run.save({"app": app.state_dict(), "rng": torch.tensor([rank])}, step=30).result()
    # 7. Without collectives: every rank plans for itself, the parts still are one checkpoint.
    dcp.save({"grid": distribute_tensor(torch.arange(14.0).reshape(7, 2), init_device_mesh("cpu", (world,)), [Shard(0)])},
             storage_writer=StorageWriter(run), checkpoint_id="40", use_collectives=False)
    run.finish()
    leave()
"""

LOAD = """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_state_dict, set_state_dict
    from runtree.torch import StorageReader
    out = os.environ["OUT"]
    store = runtree.Store()
    [run] = store.runs()
    reader = StorageReader(store)

    def expect(model, name):
        saved = np.load(f"{out}/{name}0.npz")
        for key, each in model.state_dict().items():
            assert np.array_equal(full(each), saved[key]), (name, key)

    model, optimizer = make(5)
    first = store.checkpoint(run.checkpoints()[0].reference)
    for source, name in [("step-13", "thirteen"), ("dcp/step-20", "async20"), ("dcp@21", "async21"), (22, "async22"),
                         ("step-10", "again"), ("step-30", "thirteen")]:
        model_state, optimizer_state = get_state_dict(model, optimizer)
        state = {"app": {"model": model_state, "optim": optimizer_state}}
        used = StorageReader(run) if source in ("step-13", 22, "step-10", "step-30") else reader
        dcp.load(state, storage_reader=used, checkpoint_id=source)
        set_state_dict(model, optimizer, model_state_dict=state["app"]["model"], optim_state_dict=state["app"]["optim"])
        expect(model, name)

    # Partial: some keys, plain values, and other placements than were saved.
    mesh = init_device_mesh("cpu", (world,))
    ten = StorageReader(first)
    saved = np.load(f"{out}/ten0.npz")
    columns = distribute_tensor(torch.zeros(7, 5), mesh, [Shard(1)])
    part = {"app": {"model": {"0.weight": columns}}, "step": 0, "words": []}
    part["list"] = [torch.zeros(3, dtype=torch.int64), {"x": torch.zeros(2)}]
    dcp.load(part, storage_reader=ten)
    assert np.array_equal(full(part["app"]["model"]["0.weight"]), saved["0.weight"])
    assert part["step"] == 10 and part["words"] == ["a", "b"]
    assert part["list"][0].tolist() == [0, 1, 2] and part["list"][1]["x"].tolist() == [1, 1]
    # Other memory than a plain one: a strided view, another dtype, two names for one tensor.
    wide = torch.zeros(7, 10)
    half = torch.zeros(7, 5, dtype=torch.float64)
    tied = torch.zeros(7)
    dcp.load({"app": {"model": {"0.weight": wide[:, ::2], "0.bias": tied, "1.weight": tied}}}, storage_reader=ten)
    assert np.array_equal(wide[:, ::2].numpy(), saved["0.weight"]) and not wide[:, 1::2].any()
    dcp.load({"app": {"model": {"0.weight": half}}}, storage_reader=ten)
    assert np.array_equal(half.numpy(), saved["0.weight"].astype(np.float64))
    # What is missing is an error, unless asked for.
    try:
        dcp.load({"nope": torch.zeros(1)}, storage_reader=ten)
        raise AssertionError("a missing key went unseen")
    except (RuntimeError, dcp.CheckpointException) as error:
        assert "nope" in str(error)
    dcp.load({"nope": torch.zeros(1)}, storage_reader=ten, planner=dcp.DefaultLoadPlanner(allow_partial_load=True))
    # Ranks that were asked for nothing in common still are.
    if world != 4:
        try:
            dcp.load({"rng": torch.zeros(1, dtype=torch.int64)}, storage_reader=StorageReader(run), checkpoint_id=30)
            raise AssertionError("nothing says whose")
        except dcp.CheckpointException as error:
            assert "ranks differ in `rng`" in str(error), error
    mine = {"rng": torch.zeros(1, dtype=torch.int64)}
    dcp.load(mine, storage_reader=StorageReader(run, per_rank="modulo"), checkpoint_id=30)
    assert mine["rng"].tolist() == [rank % 4]
    grid = {"grid": distribute_tensor(torch.zeros(7, 2), mesh, [Shard(1)])}
    dcp.load(grid, storage_reader=StorageReader(run), checkpoint_id=40)
    assert np.array_equal(full(grid["grid"]), np.arange(14.0, dtype=np.float32).reshape(7, 2))
    leave()
"""


def test_four_ranks_save_with_dcp_and_two_one_and_three_load(tmp_path: Path) -> None:
    torchrun(tmp_path, SAVE, 4)
    [run] = runtree.Store().runs()
    ten, again = (each for each in run.checkpoints() if each.step == 10)
    # It is an ordinary checkpoint: load, slices, export.
    state = again.load(keys="app.model.*")
    saved = np.load(tmp_path / "again0.npz")
    assert all(np.array_equal(each.numpy(), saved[name]) for name, each in state["app"]["model"].items())
    assert torch.equal(again.tensor("app.model.2.weight", (slice(1), 3)), torch.from_numpy(saved["2.weight"])[:1, 3])
    whole = ten.load()
    assert torch.load(__import__("io").BytesIO(whole["words"]), weights_only=False) == ["a", "b"]
    assert [each.tolist() for each in (whole["list"][0], whole["list"][1]["x"])] == [[0, 1, 2], [1, 1]]
    # What plain torch reads from a directory.
    directory = runtree.torch.export_dcp(ten, tmp_path / "plain")  # pyright: ignore[reportAttributeAccessIssue]
    part: dict[str, Any] = {"app": {"model": {"0.weight": torch.zeros(7, 5)}}, "step": 0, "words": []}
    dcp.load(part, checkpoint_id=directory, no_dist=True)
    first = np.load(tmp_path / "ten0.npz")
    assert np.array_equal(part["app"]["model"]["0.weight"].numpy(), first["0.weight"])
    assert part["step"] == 10
    assert part["words"] == ["a", "b"]
    with pytest.raises(runtree.Conflict):
        runtree.torch.export_dcp(ten, directory)  # pyright: ignore[reportAttributeAccessIssue]
    for ranks in (2, 1, 3):
        torchrun(tmp_path, LOAD, ranks)


def test_what_dcp_itself_saved_and_what_we_export_are_the_same(tmp_path: Path) -> None:
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    run = runtree.init("p", console=False, system_metrics=False)
    shared = torch.arange(12.0)
    state = {
        "model": {"w": torch.randn(300, 5), "b": torch.zeros(0, 3), "scalar": torch.tensor(3.5)},
        "views": [shared.view(3, 4), shared[2:5]],
        "epoch": 3,
        "name": "x",
    }
    checkpoint = run.save(state, step=0).result()
    run.finish()
    command = [sys.executable, "-m", "runtree.torch", "export-dcp", checkpoint.reference, str(tmp_path / "out")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(tmp_path / "out")
    dcp_to_torch_save(tmp_path / "out", tmp_path / "one.pt")
    found = torch.load(tmp_path / "one.pt", weights_only=False)
    assert found["epoch"] == 3
    assert found["name"] == "x"
    for name, tensor in state["model"].items():  # pyright: ignore[reportAttributeAccessIssue]
        assert torch.equal(found["model"][name], tensor), name
    assert all(torch.equal(*pair) for pair in zip(found["views"], state["views"], strict=True))  # pyright: ignore[reportArgumentType]
    checkpoint.export(tmp_path / "again", layout="dcp")
    assert (tmp_path / "again" / ".metadata").is_file()
    # The command says how, since it has no torch itself.
    hint = subprocess.run(
        [sys.executable, "-m", "runtree", "export", checkpoint.reference, str(tmp_path / "x"), "--layout", "dcp"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert hint.returncode != 0
    assert "python -m runtree.torch export-dcp" in hint.stderr


def test_ids_and_mistakes() -> None:
    from runtree.torch import StorageReader, StorageWriter

    for text in ("step-5", "a/step-5", "x/y/step_5", "5", "run@5", "checkpoint-5", "global_step5"):
        assert StorageWriter.validate_checkpoint_id(text), text
    assert not StorageWriter.validate_checkpoint_id("latest")
    run = runtree.init("p", name="one", console=False, system_metrics=False)
    other = runtree.Store().runs()
    assert len(list(other)) == 1
    state = {"w": torch.ones(2)}
    with pytest.raises(dcp.CheckpointException, match="does not end in a step"):
        dcp.save(state, storage_writer=StorageWriter(run), checkpoint_id="latest")
    dcp.save(state, storage_writer=StorageWriter(), checkpoint_id="one/step-1")
    run.log({"loss": 1.0}, step=7)
    dcp.save(state, storage_writer=StorageWriter(run, name="last", metrics={"loss": 1.0}, pin=True))
    latest = run.checkpoint()
    assert (latest.step, latest.name, latest.pinned) == (7, "last", True)
    state["w"].zero_()
    dcp.load(state, storage_reader=StorageReader())
    assert state["w"].tolist() == [1, 1]
    run.finish()
    # Nobody began a run: the id names one, and the next save continues it.
    for step in (1, 2):
        dcp.save(state, storage_writer=StorageWriter(), checkpoint_id=f"fresh/step-{step}")
    fresh = runtree.Store().run("fresh")
    assert [each.step for each in fresh.checkpoints()] == [1, 2]
    with pytest.raises(dcp.CheckpointException, match="this process writes to"):
        dcp.save(state, storage_writer=StorageWriter(), checkpoint_id="one/step-3")


def test_the_stager_copies_everything_and_reuses_memory() -> None:
    from runtree.torch import AsyncStager

    stager = AsyncStager()
    tied = torch.randn(1000, 37)
    state = {
        "a": tied, "b": tied, "t": tied.t(), "bf16": torch.randn(3, 5).bfloat16(), "empty": torch.zeros(0, 2),
        "nested": [torch.arange(5), {"x": (torch.tensor(3), "text")}], "conj": torch.randn(3, dtype=torch.complex64).conj(),
    }  # fmt: skip
    staged = stager.stage(state)
    expected = {"t": state["t"].clone(), "a": tied.clone()}  # pyright: ignore[reportAttributeAccessIssue]
    tied.zero_()
    assert torch.equal(staged["a"], expected["a"])
    assert torch.equal(staged["t"], expected["t"])
    assert staged["a"].data_ptr() == staged["b"].data_ptr(), "what is shared stays shared"
    assert torch.equal(staged["conj"], state["conj"])
    assert torch.equal(staged["bf16"], state["bf16"])
    assert staged["nested"][1]["x"][1] == "text"
    assert staged["empty"].shape == (0, 2)
    assert not stager.should_synchronize_after_execute
    # While somebody holds a staged tensor, its memory is nobody else's.
    held = staged["a"]
    before = held.clone()
    del staged
    second = stager.stage({"a": torch.full((1000, 37), 7.0)})
    assert torch.equal(held, before)
    address = second["a"].data_ptr()
    del second
    assert stager.stage({"a": torch.ones(1000, 37)})["a"].data_ptr() == address, "and afterwards it is used again"
    stager.close()


FAIL = """
    import resource, signal, time
    import torch.distributed.checkpoint as dcp
    from runtree.torch import StorageWriter
    run = runtree.init("p", run_id="fail", console=False, system_metrics=False)
    mesh = init_device_mesh("cpu", (world,))
    def state(value):
        # Other values on each rank: what rank 0 has written already, rank 1 would not write again.
        return {f"t{i}": distribute_tensor(value + torch.arange(320_000.0).reshape(8, -1), mesh, [Shard(0)]) for i in range(4)}
    writer = StorageWriter(run)
    dcp.save(state(1.0), storage_writer=writer, checkpoint_id="step-1")

    # The disk of rank 1 is full: all ranks are told at once, and nothing appears.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if rank == 1:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    started = time.monotonic()
    try:
        dcp.save(state(2.0), storage_writer=writer, checkpoint_id="step-2")
        raise AssertionError("rank 1 can not have saved")
    except dcp.CheckpointException as error:
        # Rank 0 fails too if it hears that the save was given up before its own part is durable.
        assert set(error.failures) <= {0, 1}, error
        assert "File too large" in str(error.failures[1][0]), error
    assert time.monotonic() - started < 60
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    dist.barrier()
    assert [each.step for each in run.checkpoints()] == [1]
    # Nobody waits for the part that will never come.
    while run.health().pending_saves:
        time.sleep(0.01)
        assert time.monotonic() - started < 60
    # The next one, of the same step, is a checkpoint.
    dcp.save(state(3.0), storage_writer=writer, checkpoint_id="step-2")
    dist.barrier()
    assert [each.step for each in run.checkpoints()] == [1, 2]

    class Dying(dcp.DefaultSavePlanner):
        def resolve_data(self, item):
            if rank == 1 and item.index.fqn == "t2":
                os.kill(os.getpid(), 9)
            return super().resolve_data(item)

    print("killing", flush=True)
    dcp.save(state(4.0), storage_writer=writer, checkpoint_id="step-3", planner=Dying())
    print("survived", flush=True)
"""


def test_a_rank_that_fails_or_dies_leaves_no_checkpoint_and_the_one_before(tmp_path: Path) -> None:
    result = torchrun(tmp_path, FAIL, 2, check=False)
    assert "killing" in result.stdout, result.stdout + result.stderr[-4000:]
    assert "survived" not in result.stdout
    [run] = runtree.Store().runs()
    assert [each.step for each in run.checkpoints()] == [1, 2]
    from runtree.torch import StorageReader

    state = {f"t{i}": torch.zeros(8, 40_000) for i in range(4)}
    dcp.load(state, storage_reader=StorageReader(run), no_dist=True)
    expected = 3.0 + torch.arange(320_000.0).reshape(8, -1)
    assert all(torch.equal(tensor, expected) for tensor in state.values())


PROCESS = """
    import warnings
    warnings.simplefilter("ignore")
    import torch, runtree, torch.distributed as dist, torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType
    from runtree.torch import StorageWriter
    # The process that writes imports this file once more.
    if __name__ == "__main__":
        dist.init_process_group("gloo")
        run = runtree.init("p", run_id="process", console=False, system_metrics=False)
        for step in (5, 6):
            dcp.async_save(
                {"w": torch.arange(10.0), "n": step}, storage_writer=StorageWriter(run), checkpoint_id=f"step-{step}",
                async_checkpointer_type=AsyncCheckpointerType.PROCESS,
            ).result()
        dist.barrier()
        assert [each.step for each in run.checkpoints()] == [5, 6]
        run.finish()
        dist.destroy_process_group()
"""


def test_a_process_of_its_own_writes(tmp_path: Path) -> None:
    script = tmp_path / "process.py"
    script.write_text(textwrap.dedent(PROCESS))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    # As in `leave`; but the process that writes must be ended by this one.
    aborted = "terminate called without an active exception" in result.stderr
    assert result.returncode == 0 or aborted, result.stderr[-4000:]
    [run] = runtree.Store().runs()
    assert [len(each.parts) for each in run.checkpoints()] == [2, 2]
    assert run.load()["w"].tolist() == list(range(10))


SWALLOW = """
    import io, os, resource, signal, sys, warnings
    warnings.simplefilter("ignore")
    import torch, runtree
    import torch.distributed.checkpoint as dcp
    from runtree.torch import StorageReader, StorageWriter
    which, path = sys.argv[1:]
    state = {f"t{i}": torch.full((300_000,), float(i)) for i in range(8)}
    run = runtree.init("p", run_id="limited", console=False, system_metrics=False) if which == "ours" else None
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # No file may be larger than 1 MB: every tensor is.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        if which == "ours":
            dcp.save(state, storage_writer=StorageWriter(run), checkpoint_id="step-1")
        else:
            dcp.save(state, storage_writer=dcp.FileSystemWriter(path, thread_count=4, single_file_per_rank=False))
        print("saved")
    except BaseException as error:
        print("refused:", type(error).__name__)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    if which == "ours":
        print("there:", len(run.checkpoints()))
        # Training, and the next save, go on.
        dcp.save(state, storage_writer=StorageWriter(run), checkpoint_id="step-2")
        print("then:", [each.step for each in run.checkpoints()])
        try:
            run.finish()
        except runtree.LostData:
            print("told at finish")
    else:
        loaded = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
        try:
            dcp.load(loaded, storage_reader=dcp.FileSystemReader(path))
            print("loaded", all(torch.equal(loaded[name], state[name]) for name in state))
        except BaseException as error:
            print("lost")
"""


def alone(tmp_path: Path, body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "alone.py"
    script.write_text(textwrap.dedent(body))
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=300, env=dict(os.environ)
    )


def test_dcp_with_threads_swallows_a_write_error_and_ours_does_not(tmp_path: Path) -> None:
    theirs = alone(tmp_path, SWALLOW, "theirs", str(tmp_path / "dcp"))
    assert theirs.returncode == 0, theirs.stderr
    ours = alone(tmp_path, SWALLOW, "ours", "-")
    assert ours.returncode == 0, ours.stderr
    assert ours.stdout.splitlines() == [
        "refused: CheckpointException", "there: 0", "then: [2]", "told at finish"
    ], ours.stdout + ours.stderr  # fmt: skip
    lines = theirs.stdout.splitlines()
    if lines == ["saved", "lost"]:
        return
    # A torch that mended it refuses: then there is nothing to compare with any more.
    assert lines[0].startswith("refused"), theirs.stdout


OVERWRITE = """
    import os, sys, warnings
    warnings.simplefilter("ignore")
    import torch, runtree
    import torch.distributed.checkpoint as dcp
    from runtree.torch import StorageWriter
    which, path = sys.argv[1:]

    class Dying(dcp.DefaultSavePlanner):
        def resolve_data(self, item):
            Dying.seen = getattr(Dying, "seen", 0) + 1
            if Dying.seen == 5:
                os.kill(os.getpid(), 9)
            return super().resolve_data(item)

    def save(value, planner=None):
        state = {f"t{i}": torch.full((100_000,), value) for i in range(8)}
        if which == "ours":
            dcp.save(state, storage_writer=StorageWriter(run), checkpoint_id="run/step-100", planner=planner)
        else:
            dcp.save(state, checkpoint_id=path, planner=planner)

    if which == "ours":
        run = runtree.init("p", run_id="over", console=False, system_metrics=False)
    save(1.0)
    print("first saved", flush=True)
    save(2.0, Dying())
"""


def test_dcp_destroys_what_it_overwrites_and_ours_keeps_it(tmp_path: Path) -> None:
    state = {f"t{i}": torch.zeros(100_000) for i in range(8)}

    def is_first() -> bool:
        return all(bool((tensor == 1.0).all()) for tensor in state.values())

    theirs = alone(tmp_path, OVERWRITE, "theirs", str(tmp_path / "dcp"))
    assert (theirs.stdout, theirs.returncode) == ("first saved\n", -9), theirs.stderr
    intact = True
    try:
        dcp.load(state, checkpoint_id=str(tmp_path / "dcp"), no_dist=True)
        intact = is_first()
    except BaseException:  # CheckpointException is one.
        intact = False
    assert not intact, "DCP mended this: say so in the docs, and drop this half of the test"
    ours = alone(tmp_path, OVERWRITE, "ours", "-")
    assert (ours.stdout, ours.returncode) == ("first saved\n", -9), ours.stderr
    from runtree.torch import StorageReader

    [run] = runtree.Store().runs()
    dcp.load(state, storage_reader=StorageReader(run), checkpoint_id="step-100", no_dist=True)
    assert is_first()


def test_an_fsdp_checkpoint_becomes_what_transformers_loads(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    body = """
        import transformers
        config = transformers.LlamaConfig(
            vocab_size=101, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=32, tie_word_embeddings=True)
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(config)
        torch.save(model.state_dict(), os.environ["OUT"] + f"/whole{rank}.pt")
        for layer in model.model.layers:
            fully_shard(layer)
        fully_shard(model)
        run = runtree.init("p", run_id="hf", console=False, system_metrics=False)
        run.save({"model": model, "config": model.config.to_dict(), "step": 1}, step=1).result()
        run.finish()
        leave()
    """
    torchrun(tmp_path, body, 8)
    [run] = runtree.Store().runs()
    saved = torch.load(tmp_path / "whole0.pt")
    for limit, files in ((None, 1), (20_000, 2)):
        target = tmp_path / f"hf{files}"
        options = [] if limit is None else ["--max-file-bytes", str(limit)]
        subprocess.run(
            [sys.executable, "-m", "runtree", "export", run.display_id, str(target), "--layout", "hf", *options],
            check=True, capture_output=True,
        )  # fmt: skip
        written = sorted(each.name for each in target.glob("*.safetensors"))
        assert (len(written) == 1) == (limit is None), written
        assert (target / "config.json").is_file()
        assert (target / "model.safetensors.index.json").is_file() == (limit is not None)
        loaded, info = transformers.AutoModelForCausalLM.from_pretrained(target, output_loading_info=True)
        assert not info["missing_keys"], info
        assert not info["unexpected_keys"], info
        found = loaded.state_dict()
        assert set(found) == set(saved)
        assert all(torch.equal(found[name], tensor) for name, tensor in saved.items())
