"""ART as it is installed, with runtree attached: real backends and models, of which only what needs a GPU is stood in for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import runtree
from runtree.integrations import art

from . import real_art

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("polars")
PAGE = Path(__file__).parents[3] / "docs" / "integrations" / "art.md"
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What happened, in one process of the real package."""
    place = tmp_path_factory.mktemp("art")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        patch.setenv("RUNTREE_STORE", str(place / ".runtree"))
        return real_art.run(Path(__file__).with_name("art_scenario.py"), str(PAGE))


def test_every_checkpoint_that_art_writes_is_in_the_run_of_its_model(told: dict[str, Any]) -> None:
    assert told["written"] == ["0000", "0001", "0002", "0003", "0004"]
    assert told["step"] == 4
    assert told["name"] == "agent@4"
    assert told["rewards"] == [0.1, 0.9, 0.5]
    assert told["run"] == ["P-1", "completed", 1]
    # ART's own file has nothing of runtree in it.
    assert "delete_checkpoints" not in told["model.json"]


def test_deletion_keeps_the_best_the_newest_and_what_is_served(told: dict[str, Any]) -> None:
    assert told["leased"] == ["0001", "0002", "0004"]
    assert told["plan"] == [1, 2, 4]
    assert told["kept"] == ["0002", "0004"]
    assert told["complete"] == [2, 4]
    assert told["came back"] == [1, 2, 4]


def test_a_fork_is_where_art_goes_on_from(told: dict[str, Any]) -> None:
    # 3 is gone; 2 was made with the rate 1.0, twice.
    assert (told["fork"], told["from"], told["again"]) == (2, 2.0, 2)
    assert told["child"] == [3, ["0002", "0003"], 2.25]
    assert "can not be forked onto itself" in told["itself"]


def test_a_fork_after_register_takes_the_place_of_what_was_there_and_deletes_nothing(told: dict[str, Any]) -> None:
    assert told["later"] is True
    assert told["late"] == [2, ["0002"]]
    assert told["replaced"] == ["0000-1", "0007-1"]


def test_a_directory_that_a_crash_left_is_not_the_last_checkpoint(told: dict[str, Any]) -> None:
    assert (told["ART's step"], told["our step"]) == (4, 3)
    assert told["torn"] == [["0002", "0003"], True]


def test_another_machine_goes_on_from_the_store(told: dict[str, Any]) -> None:
    assert told["elsewhere before"] == 3
    assert told["elsewhere"] == [["0003"], 2.25]
    # What the pipeline's retention does not keep goes; what was inherited is the parent's.
    assert told["pipeline"] == [["0004"], [2, 4]]
    assert told["detached"] == []


def test_supervised_training_and_a_plain_with_are_taken_care_of(told: dict[str, Any]) -> None:
    assert told["sft"] == [1.0, 0.0]
    assert told["sft run"] == [[0, 1], "completed"]


def test_the_code_of_the_page_runs_with_the_real_package(told: dict[str, Any]) -> None:
    # Rewards are .5, .75, .25 at 1, 2, 3: the best and the newest are kept.
    assert told["page"] == [2, 3]
    assert told["page fork"] == 2
    assert told["page lower"] == [2, [3]]


def test_what_is_no_backend_of_art_is_refused() -> None:
    with pytest.raises(runtree.InvalidType, match="SimpleNamespace is no LocalBackend of ART"):
        art.attach(SimpleNamespace(_path=".art", train=print))
