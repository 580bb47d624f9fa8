"""What a fork takes from its family and what nobody can take from it: parents that live, are overwritten, rewound, deleted; depth,
projects, config, experiments. Defects 3, 4, 6, 14, 15, 17, 18, 19 of Pluto's fork feature and gaps of its tests (docs/pluto.md)."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtree
from pluto.conftest import COMMAND, Api, points, read

pytestmark = [
    pytest.mark.filterwarnings("ignore:run .* has no checkpoint:runtree.RuntreeWarning"),
    pytest.mark.filterwarnings("ignore:step .* own history:runtree.RuntreeWarning"),
]


# ---- A parent that is alive.


def test_gap_a_fork_of_a_live_parent_right_after_it_logged(start: Any) -> None:
    """Gap "fork at live parent (read-your-writes)", same process: no wait, no "exceeds", and what it logs later is not inherited."""
    parent = start()
    waited = 0.0
    for round in range(5):
        last = round * 10 + 9
        for step in range(round * 10, last + 1):
            parent.log({"loss": float(step)}, step=step)
        began = time.monotonic()
        child = start(fork_run_id=parent.display_id, fork_step=last)
        waited += time.monotonic() - began
        assert points(child) == {step: float(step) for step in range(last + 1)}
        parent.log({"loss": -1.0}, step=last + 1)
        parent.flush()
        assert points(child) == {step: float(step) for step in range(last + 1)}
        child.log({"loss": 7.0})
        child.finish()
        assert points(child)[last + 1] == 7.0
    assert waited < 5 * 1.2, "a step that this process logged is not waited for"


FORK = """
import sys, warnings, runtree
warnings.simplefilter("ignore")
run = runtree.init("digits", fork_run_id=sys.argv[1], fork_step=int(sys.argv[2]), console=False, system_metrics=False)
run.log({"loss": 7.0})
run.finish()
print(run.id)
"""


def test_gap_a_fork_of_a_live_parent_by_another_process(start: Any) -> None:
    """Gap "fork at live parent", other process, with the parent's newest second in its memory alone when the fork starts."""
    parent = start()
    for step in range(100):
        parent.log({"loss": float(step)}, step=step)
    told = subprocess.run(
        [sys.executable, "-c", FORK, parent.display_id, "99"], capture_output=True, text=True, check=False, timeout=60
    )
    assert told.returncode == 0, told.stderr
    child = runtree.Store().run(told.stdout.strip())
    parent.flush()
    assert points(child) == {**{step: float(step) for step in range(100)}, 100: 7.0}


# ---- A parent that changes.


def test_defect_19_a_parent_that_is_overwritten_by_a_later_launch(start: Any, api: Api) -> None:
    """Defect 19, gap "parent overwritten after fork": resumed from an older checkpoint and logged anew, a fork before and after."""
    parent = start(run_id="parent")
    for step in range(21):
        parent.log({"loss": float(step)}, step=step)
        if step == 5:
            parent.save({"w": np.arange(3)}, step=5).result()
    parent.finish()
    before = start(fork_run_id="parent", fork_step=10)
    before.log({"loss": 0.5})
    before.finish()
    again = start(run_id="parent", resume="must")
    assert again.next_step == 6
    for step in range(6, 21):
        again.log({"loss": 100.0 + step}, step=step)
    again.finish()
    after = start(fork_run_id="parent", fork_step=10)
    after.finish()
    assert points(before) == {**{step: float(step) for step in range(11)}, 11: 0.5}
    assert points(after) == {step: step if step <= 5 else 100.0 + step for step in range(11)}
    assert points(again) == {step: step if step <= 5 else 100.0 + step for step in range(21)}
    drawn = api.chart(before.id, "loss")
    assert dict(zip(drawn["x_first"], drawn["last"], strict=True)) == points(before)
    # What was overwritten is not gone: the older launch's tail is there to be drawn.
    [ghost, _] = api.get(f"/runs/{again.id}")["attempts"]
    assert ghost["ghost_from"] == 6
    tail = api.chart(again.id, "loss", attempt=1, **{"from": 6})
    assert dict(zip(tail["x_first"], tail["last"], strict=True)) == {step: float(step) for step in range(6, 21)}


def test_defect_19_a_launch_that_corrects_a_value_corrects_its_forks(start: Any, api: Api) -> None:
    """Defect 19, what docs/design/0010 decides: one launch has one value at a step, for itself and its forks."""
    parent = start(run_id="parent")
    for step in range(11):
        parent.log({"loss": float(step)}, step=step)
    parent.save({"w": np.arange(3)}, step=10).result()
    child = start(fork_run_id="parent", fork_step=8)
    child.log({"loss": 0.5})
    child.finish()
    parent.log({"loss": 70.0}, step=7)
    parent.log({"late": 1.0}, step=3)
    parent.log({"loss": 90.0, "late": 2.0}, step=9)
    parent.finish()
    corrected = {**{step: float(step) for step in range(9)}, 7: 70.0}
    assert points(child) == {**corrected, 9: 0.5}
    assert points(child, "late") == {3: 1.0}
    drawn = api.chart(child.id, "loss")
    assert dict(zip(drawn["x_first"], drawn["last"], strict=True)) == points(child)
    # Another launch of the same run corrects nothing of what was forked before.
    again = start(run_id="parent", resume="must")
    assert again.next_step == 11
    again.log({"loss": -1.0}, step=7)
    again.finish()
    assert points(child) == {**corrected, 9: 0.5}


def test_gap_a_parent_that_is_rewound(start: Any) -> None:
    """Defect 19, gap "parent … rewound": below the fork step, at once, in the process that goes on."""
    parent = start()
    for step in range(21):
        parent.log({"loss": float(step)}, step=step)
    child = start(fork_run_id=parent.display_id, fork_step=15)
    child.log({"loss": 0.5})
    child.finish()
    parent.rewind(3)
    for step in range(4, 30):
        parent.log({"loss": -1.0}, step=step)
    parent.finish()
    assert points(child) == {**{step: float(step) for step in range(16)}, 16: 0.5}
    grandchild = start(fork_run_id=child.display_id, fork_step=9)
    assert grandchild.fork_run_id == parent.display_id, (
        "the owner is the parent, by the launch that the child was forked from"
    )
    assert points(grandchild) == {step: float(step) for step in range(10)}


@pytest.fixture
def with_checkpoint(start: Any) -> tuple[runtree.Run, runtree.Run]:
    """A parent with a checkpoint and a fork at it that has gone on."""
    parent = start(config={"lr": 0.1}, tags=["kept"])
    for step in range(11):
        parent.log({"loss": float(step)}, step=step)
    parent.save({"w": np.arange(1000)}, step=10).result()
    parent.finish()
    child = start(fork=f"{parent.display_id}@10")
    child.log({"loss": 0.5})
    child.finish()
    return parent, child


def check_child(child: runtree.StoredRun, parent: runtree.StoredRun, start: Any) -> None:
    assert points(child) == {**{step: float(step) for step in range(11)}, 11: 0.5}
    assert (child.parent, child.fork_run_id, child.fork_step) == (parent.display_id, parent.display_id, 10)
    assert child.config == {"lr": 0.1}
    assert [checkpoint.step for checkpoint in child.checkpoints()] == [10]
    assert np.array_equal(runtree.Store().run(child.id).load(10)["w"], np.arange(1000))
    # And it can be forked again, at what it inherits.
    grandchild = start(fork_run_id=child.display_id, fork_step=10)
    assert points(grandchild) == {step: float(step) for step in range(11)}
    assert np.array_equal(grandchild.load()["w"], np.arange(1000))
    grandchild.finish()


def test_defect_15_a_deleted_parent_leaves_its_children_what_they_show(
    with_checkpoint: tuple[runtree.Run, runtree.Run], start: Any, api: Api, cli: Any
) -> None:
    """Defect 15, gap "parent deleted": by command, by API, its checkpoint too; undeleted again; the index made anew in between."""
    parent, child = with_checkpoint
    told = subprocess.run([*COMMAND, "delete", parent.display_id], capture_output=True, text=True, check=True)
    assert f"its fork {child.display_id} keeps what it shows" in told.stdout + told.stderr
    assert parent not in runtree.Store().runs()
    check_child(child, parent, start)
    runtree.Store().checkpoint(f"{child.id}@10").delete()
    runtree.Store().reindex()
    assert parent not in runtree.Store().runs()
    assert points(child) == {**{step: float(step) for step in range(11)}, 11: 0.5}
    tree = api.get(f"/runs/{child.id}/lineage")
    assert {run["summary"]["id"]: run["summary"]["deleted"] for run in tree["runs"]}[parent.id]
    assert tree["root"] == parent.id
    subprocess.run([*COMMAND, "undelete", parent.id], capture_output=True, check=True)
    assert parent in runtree.Store().runs()
    api.delete(f"/runs/{parent.id}")
    assert api.get(f"/runs/{child.id}")["summary"]["owner"]["id"] == parent.id
    assert api.chart(child.id, "loss")["points"] == 12
    api.post(f"/runs/{parent.id}/restore", {})
    assert len(points(child)) == 12


def test_defect_15_a_deleted_grandparent_stays_in_the_histories_of_all_below(logged: Any, start: Any) -> None:
    """Defect 15, second half: the grandchild of a deleted run keeps the whole chain."""
    root = logged(range(11))
    child = logged(range(11, 21), fork_run_id=root.display_id, fork_step=10)
    grandchild = logged(range(21, 31), fork_run_id=child.display_id, fork_step=20)
    before = points(grandchild)
    assert list(before) == list(range(31))
    for run in (root, child):
        subprocess.run([*COMMAND, "delete", run.id], capture_output=True, check=True)
        assert points(grandchild) == before
    assert [segment.run for segment in grandchild.lineage()] == [
        root.display_id,
        child.display_id,
        grandchild.display_id,
    ]


# ---- How deep, and how wide.


def test_gap_a_chain_of_a_hundred_forks(start: Any, api: Api) -> None:
    """Gap "chain of 100": every one logs, every joint holds, in Python, API and statistics; nothing is cut at ten."""
    parent: runtree.Run | None = None
    for k in range(100):
        fork = {} if parent is None else {"fork_run_id": parent.id, "fork_step": 10 * k - 1}
        run = start(name="chain", **fork)
        for step in range(10 * k, 10 * k + 13):
            run.log({"loss": float(step + 10_000 * k)}, step=step)
        run.finish()
        parent = run
    assert parent is not None
    expected = {step: float(step + 10_000 * min(step // 10, 99)) for step in range(1003)}
    assert points(parent) == expected
    assert [len(run) for run in (parent.lineage(), set(parent.history("loss").runs))] == [100, 100]
    drawn = api.chart(parent.id, "loss", pixels=4000)
    assert dict(zip(drawn["x_first"], drawn["last"], strict=True)) == expected
    detail = api.get(f"/runs/{parent.id}")
    assert len(detail["segments"]) == 100
    [fact] = detail["metrics"]
    assert (fact["points"], read(fact["min"]["value"]), read(fact["max"]["value"])) == (1003, 0.0, 991_002.0)
    fork = start(fork_run_id=parent.id, fork_step=255)
    assert fork.experiment == "chain"
    assert fork.number == 101
    owner = runtree.Store().run(fork.fork_run_id)
    assert owner.number == 26, "resolved through 74 forks"
    assert fork.parent == parent.display_id


def test_gap_a_chain_of_hundreds_of_forks_that_logged_nothing(
    start: Any, memory_dir: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Defect 13 and gap "chain of 100", longer: there is no cap on depth anywhere (`make bench` has 1,000 and 10,000)."""
    # In memory: a disk's fsyncs are not what is tested.
    monkeypatch.setenv("RUNTREE_STORE", f"{memory_dir}/deep")
    api: Api = request.getfixturevalue("api")
    run = start(name="deep", config={"lr": 0.1})
    run.log({"loss": 0.0}, step=0)
    run.finish()
    store, leaf = runtree.Store(), run.id
    options = {
        "reference": None,
        "project": None,
        "into": None,
        "name": None,
        "key": None,
        "config": None,
        "tags": [],
        "notes": None,
    }
    for step in range(399):
        given = {**options, "fork_run": leaf, "fork_step": step, "inherit_config": True, "inherit_tags": False}
        leaf = store.native.fork(given)
    last = start(fork_run_id=leaf, fork_step=399)
    last.log({"loss": 1.0})
    last.finish()
    assert points(last) == {0: 0.0, 400: 1.0}
    assert last.config == {"lr": 0.1}, "down 400 forks"
    assert last.experiment == "deep"
    assert len(last.lineage()) == 401
    assert api.chart(last.id, "loss")["points"] == 2
    assert len(store.runs(f"descendants({run.id})", limit=2000)) == 400


# ---- Names, projects, experiments.


def test_gap_a_fork_into_another_project(start: Any, api: Api) -> None:
    """Gap "cross-project": lineage, config, metrics and checkpoint come along; its number is the other project's."""
    parent = start("pretrain", name="base", config={"lr": 0.1, "model": {"depth": 4}})
    for step in range(11):
        parent.log({"loss": float(step)}, step=step)
    parent.save({"w": np.arange(1000)}, step=10).result()
    parent.finish()
    start("finetune").finish()
    start("finetune").finish()
    forks = [
        start("finetune", fork=f"pretrain/{parent.display_id}@10", config={"lr": 0.01}),
        start("finetune", fork_run_id=parent.id, fork_step=10, config={"lr": 0.01}),
    ]
    for number, child in enumerate(forks, 3):
        assert (child.project, child.number, child.display_id) == ("finetune", number, f"FIN-{number}")
        assert (child.parent, child.fork_run_id, child.fork_step) == (parent.display_id, parent.display_id, 10)
        assert child.experiment == "base"
        assert child.config == {"lr": 0.01, "model": {"depth": 4}}
        child.log({"loss": 0.5})
        child.flush()
        assert points(child) == {**{step: float(step) for step in range(11)}, 11: 0.5}
        assert np.array_equal(child.load()["w"], np.arange(1000))
        child.finish()
    assert [run["summary"]["project"] for run in api.get(f"/runs/{parent.id}/lineage")["runs"]] == [
        "pretrain",
        "finetune",
        "finetune",
    ]
    assert {run.id for run in runtree.Store().runs(f"descendants({parent.id})")} == {child.id for child in forks}
    assert {run.id for run in runtree.Store().runs(f"root({parent.id})", project="finetune")} == {c.id for c in forks}


def test_defect_6_an_experiment_is_a_lineage_and_not_a_name(logged: Any, start: Any) -> None:
    """Defect 6: equal names of strangers group nothing, other names of relatives separate nothing."""
    first = logged(range(3), name="sweep")
    stranger = logged(range(3), name="sweep")
    child = logged(range(3, 5), name="something else", fork_run_id=first.id, fork_step=2)
    root = {run.name: run.id for run in runtree.Store().runs(f"root({first.id})")}
    assert root == {"sweep": first.id, "something else": child.id}
    assert child.experiment == "sweep"
    assert [run.id for run in runtree.Store().runs(f"root({stranger.id})")] == [stranger.id]


def test_defect_14_lineage_stands_in_every_representation(logged: Any, start: Any, api: Api, cli: Any) -> None:
    """Defect 14: list, detail by id, by display id, by key; API, Python, command line agree, and there is a lineage route."""
    root = logged(range(11), name="root")
    middle = logged(range(11, 21), name="middle", fork_run_id=root.id, fork_step=10)
    leaf = logged(range(6, 9), name="leaf", run_id="leaf-key", fork_run_id=middle.id, fork_step=5)

    def lineage(summary: dict[str, Any]) -> tuple[Any, ...]:
        return (
            summary["parent"]["id"],
            summary["owner"]["id"],
            summary["fork_step"],
            summary["root"],
            summary["experiment"],
        )

    expected = (middle.id, root.id, 5, root.id, "root")
    [listed] = [run for run in api.get("/runs")["runs"] if run["id"] == leaf.id]
    told = [listed, *(api.get(f"/runs/{name}")["summary"] for name in (leaf.id, leaf.display_id, "leaf-key", "leaf"))]
    told += [run for run in cli("runs")["runs"] if run["id"] == leaf.id]
    told += [cli("show", leaf.display_id)["summary"]]
    told += [run["summary"] for run in api.get(f"/runs/{leaf.id}/lineage")["runs"] if run["summary"]["id"] == leaf.id]
    assert len(told) == 8
    assert {lineage(summary) for summary in told} == {expected}
    for run in (
        runtree.Store().run("leaf-key"),
        runtree.Store().run(leaf.display_id),
        *runtree.Store().runs("leaf-key"),
    ):
        assert (run.parent, run.fork_run_id, run.fork_step) == (middle.display_id, root.display_id, 5)
        assert run.experiment == "root"
    assert [child.id for child in root.children()] == [middle.id, leaf.id]


def test_defect_17_a_display_id_is_looked_up_in_the_store_that_was_named(
    tmp_path: Path, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect 17: the store of ``store=``, though the environment's has a run of the same name and another config."""
    monkeypatch.setenv("RUNTREE_STORE", str(tmp_path / "other"))
    for store, lr in ((None, 9.0), (str(tmp_path / "mine"), 0.1)):
        run = start(store=store, config={"lr": lr})
        run.log({"loss": lr}, step=0)
        run.finish()
        assert run.display_id == "DIG-1"
    child = start(store=str(tmp_path / "mine"), fork_run_id="DIG-1", fork_step=0, config={"depth": 2})
    assert child.config == {"lr": 0.1, "depth": 2}
    assert points(child) == {0: 0.1}


def test_defect_18_a_parent_that_is_not_found_is_never_a_plain_run(logged: Any, start: Any) -> None:
    """Defect 18: no first hit of a search, no silence: a name is found, or refused with the candidates."""
    logged(range(3), name="twin")
    logged(range(3), name="twin")
    logged(range(3), name="twin peaks")
    for name, error in (
        ("twi", LookupError),
        ("peaks", LookupError),
        ("W-123?_step=2", LookupError),
        ("twin", ValueError),
    ):
        with pytest.raises((error, runtree.Conflict, runtree.Invalid)):
            start(fork_run_id=name, fork_step=2)
    assert len(runtree.Store().runs()) == 3
    assert start(fork_run_id="twin peaks", fork_step=2).parent == "DIG-3"


def test_gap_the_resume_of_a_fork_keeps_its_lineage(logged: Any, start: Any) -> None:
    """Defect 18, gap "resume of a fork keeps lineage": with the fork's arguments again, and by its key alone."""
    parent = logged(range(11), config={"lr": 0.1})
    keywords: dict[str, Any] = {"run_id": "child", "fork_run_id": parent.display_id, "fork_step": 10}
    first = start(**keywords, config={"depth": 2})
    first.log({"loss": 11.0})
    first.finish()
    for again in ({**keywords, "resume": "allow"}, {"run_id": "child", "resume": "must"}):
        run = start(**again)
        assert run.id == first.id
        assert (run.parent, run.fork_run_id, run.fork_step) == (parent.display_id, parent.display_id, 10)
        assert run.config == {"lr": 0.1, "depth": 2}
        run.log({"loss": float(run.next_step)})
        run.finish()
    expected = {**{step: 1 / (step + 1) for step in range(11)}, 11: 11.0, 12: 12.0, 13: 13.0}
    assert points(runtree.Store().run("child")) == expected


# ---- Config.


def test_defect_3_config_comes_from_the_owner_merged_deeply(logged: Any, start: Any) -> None:
    """Defect 3, gap "config deep merge vs resolved parent": whether or not the fork says something of its own."""
    owner = logged(range(11), config={"lr": 0.1, "opt": {"name": "adam", "betas": {"one": 0.9}}})
    declared = logged(
        range(11, 21), fork_run_id=owner.id, fork_step=10, config={"opt": {"name": "sgd"}, "only": "declared"}
    )
    plain = start(fork_run_id=declared.id, fork_step=5)
    assert plain.config == owner.config
    changed = start(
        fork_run_id=declared.id, fork_step=5, config={"opt": {"betas": {"two": 0.99}}, "new": {"a": {"b": 1}}}
    )
    expected = {
        "lr": 0.1,
        "opt": {"name": "adam", "betas": {"one": 0.9, "two": 0.99}},
        "new": {"a": {"b": 1}},
    }
    assert changed.config == expected
    assert runtree.Store().run(changed.id).config == expected
    beyond = start(fork_run_id=declared.id, fork_step=15)
    assert beyond.config == declared.config
    assert beyond.config["opt"] == {"name": "sgd", "betas": {"one": 0.9}}


def test_gap_lists_and_nulls_are_values_of_a_config(logged: Any, start: Any, api: Api) -> None:
    """Gap "list/null config values": lists are replaced whole, null is a value that is set, kept, inherited, and no deletion."""
    config = {
        "layers": [1, 2, 3],
        "clip": None,
        "opt": {"warmup": None, "groups": [{"lr": 1}, {"lr": 2}]},
        "lr": 0.1,
        "empty": [],
    }
    parent = logged(range(3), config=config)
    assert start(fork_run_id=parent.id, fork_step=2).config == config
    child = start(
        fork_run_id=parent.id,
        fork_step=2,
        config={"layers": [9], "lr": None, "opt": {"groups": []}, "clip": 1.0, "empty": {}},
    )
    expected = {"layers": [9], "clip": 1.0, "opt": {"warmup": None, "groups": []}, "lr": None, "empty": {}}
    assert child.config == expected
    child.finish()
    runtree.Store().reindex()
    assert runtree.Store().run(child.id).config == expected
    detail = api.get(f"/runs/{child.id}")
    assert detail["summary"]["config"] == expected
    changes = {change["key"]: (change["before"], change["after"]) for change in detail["config_diff"]}
    assert changes["lr"] == (0.1, None)
    assert changes["clip"] == (None, 1.0)
    assert changes["layers"] == ([1, 2, 3], [9])


def test_defect_4_what_is_inherited_is_found_and_sorted_by(logged: Any, start: Any, api: Api, cli: Any) -> None:
    """Defect 4: inherited config and inherited metrics, in filters, words and order, of forks that gave no config at all."""
    parent = logged(range(11), config={"lr": 0.125, "opt": {"name": "lion"}}, value=lambda step: 10.0 - step)
    child = logged(range(0), fork_run_id=parent.id, fork_step=4)
    other = logged(range(3), config={"lr": 0.5, "opt": {"name": "adam"}}, value=lambda step: 50.0)
    store = runtree.Store()
    both = {parent.id, child.id}
    for text in ("config.lr = 0.125", "config.opt.name = lion", "lion", "config.lr < 0.2", "max(loss) = 10"):
        assert {run.id for run in store.runs(text)} == both, text
        assert {run["id"] for run in api.get("/runs", filter=text)["runs"]} == both, text
    assert [run.id for run in store.runs("loss = 6")] == [child.id], "what it inherits is its last value"
    assert [run.id for run in store.runs("min(loss) = 0")] == [parent.id], "and no more than what it inherits"
    assert [run.id for run in store.runs(sort="config:lr")] == [other.id, child.id, parent.id]
    assert [run.id for run in store.runs(sort="metric:loss", descending=False)] == [parent.id, child.id, other.id]
    page = api.get("/runs", sort="min:loss", order="asc")
    assert [run["id"] for run in page["runs"]] == [parent.id, child.id, other.id]
