"""The checkpoint block: its fields, every refusal, all problems at once; in pydantic models, in dataclasses, with tyro."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pydantic
import pytest
import tyro

import runtree
from runtree import CheckpointConfig, Retention

BOTH = ("trainer", "orchestrator")
SKIPS = ("skip_progress", "skip_scheduler", "skip_dataloader", "skip_optimizer")


# ---- The fields.


def test_the_defaults_are_the_documents() -> None:
    assert dataclasses.asdict(CheckpointConfig()) == {
        "interval": None, "save_async": False, "keep_last": None, "keep_interval": None, "resume_step": None, "resume_dir": None,
        "output_dir": None, **dict.fromkeys(SKIPS, False), "load_only": False,
    }  # fmt: skip
    assert CheckpointConfig().retention is None
    assert CheckpointConfig().fork is None


def test_a_block_is_a_value() -> None:
    config = CheckpointConfig(interval=10, output_dir=Path("out"))
    assert config == CheckpointConfig.of({"interval": 10, "output_dir": "out"})
    assert hash(config) == hash(dataclasses.replace(config))
    assert dataclasses.replace(config, interval=20).interval == 20
    with pytest.raises(runtree.Invalid, match="interval 0 is less than 1"):
        dataclasses.replace(config, interval=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.interval = 3  # type: ignore[misc]


def test_keep_last_and_keep_interval_are_the_runs_retention() -> None:
    assert CheckpointConfig(keep_last=2).retention == Retention(keep_last=2)
    assert CheckpointConfig(keep_interval=4).retention == Retention(keep_interval=4)
    assert CheckpointConfig(keep_last=2, keep_interval=4).retention == Retention(keep_last=2, keep_interval=4)


@pytest.mark.parametrize("field", ["interval", "keep_last", "keep_interval"])
@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "is less than 1"), (-1, "is less than 1"), (2**32, "is too large"), (1.5, "is not a whole number"),
     (True, "is not a whole number"), ("ten", "is not a whole number"), ("", "is not a whole number")],
)  # fmt: skip
def test_numbers_are_positive_whole_numbers(field: str, value: Any, said: str) -> None:
    with pytest.raises(runtree.Invalid, match=f"{field} {re.escape(repr(value))} {said}") as raised:
        CheckpointConfig(**{field: value})
    assert raised.value.hint is not None
    with pytest.raises(ValueError, match=f"{field} .*{said}"):
        CheckpointConfig.of({field: value})
    assert getattr(CheckpointConfig(**{field: 1}), field) == 1


def test_a_step_to_resume_is_a_step_or_the_newest() -> None:
    for step in (-1, 0, 20):
        assert CheckpointConfig(resume_step=step).resume_step == step
    for wrong in (-2, 2**63):
        with pytest.raises(runtree.Invalid, match=rf"resume_step {wrong} is not a step\nhint: -1 is the newest"):
            CheckpointConfig(resume_step=wrong)


@pytest.mark.parametrize("field", ["save_async", *SKIPS])
def test_switches_are_booleans(field: str) -> None:
    assert getattr(CheckpointConfig(**{field: True}), field) is True
    for wrong in (1, None, "yes"):
        with pytest.raises(runtree.Invalid, match=f"{field} {wrong!r} is neither true nor false"):
            CheckpointConfig(**{field: wrong})


def test_a_directory_to_resume_is_one_checkpoints() -> None:
    config = CheckpointConfig(resume_dir="out/checkpoints/step_007/")  # type: ignore[arg-type]
    assert config.resume_dir == Path("out/checkpoints/step_007")
    for wrong in ("out/checkpoints", "step_7.tmp", "step_old_9", "step_", "step_²"):
        with pytest.raises(runtree.Invalid, match=f"resume_dir {wrong} is not called step_<N>"):
            CheckpointConfig(resume_dir=Path(wrong))
    with pytest.raises(runtree.Invalid, match="output_dir '' is not a directory"):
        CheckpointConfig(output_dir="")  # type: ignore[arg-type]


def test_every_problem_is_told_at_once_with_what_to_do() -> None:
    with pytest.raises(runtree.Invalid) as raised:
        CheckpointConfig(
            interval=0, save_async=1, keep_last=True, resume_step=-5, resume_dir="x", output_dir=3, load_only=True, keep_interval=2
        )  # type: ignore[arg-type]  # fmt: skip
    first, *lines = raised.value.message.splitlines()
    assert first == "8 problems in the checkpoint block:"
    whats = [line.strip().split(": ", 1)[0] for line in lines]
    assert whats == [
        "interval 0 is less than 1", "save_async 1 is neither true nor false", "keep_last True is not a whole number",
        "resume_step -5 is not a step", "resume_dir x is not called step_<N>", "output_dir 3 is not a directory",
        "resume_step -5 and resume_dir x both say where to go on",
        "keep_interval 2 is of checkpoints that are not written",
    ]  # fmt: skip
    assert all(len(line.split(": ", 1)[1]) > 10 for line in lines)


def test_a_mapping_has_texts_both_spellings_and_none_as_a_word() -> None:
    assert CheckpointConfig.of({"keep-last": "3", "save_async": "True", "interval": "None", "output-dir": "out"}) == (
        CheckpointConfig(keep_last=3, save_async=True, output_dir=Path("out"))
    )
    assert CheckpointConfig.of(None) is None
    assert CheckpointConfig.of(False) is None
    assert CheckpointConfig.of(True) == CheckpointConfig.of({}) == CheckpointConfig()
    with pytest.raises(runtree.InvalidType, match="not a list"):
        CheckpointConfig.of([])  # type: ignore[arg-type]
    with pytest.raises(runtree.Invalid, match="intervals is no setting of checkpoints\nhint: did you mean interval?"):
        CheckpointConfig.of({"intervals": 3})
    with pytest.raises(
        runtree.Invalid, match="weights is no setting of checkpoints\nhint: there are interval, keep_last"
    ):
        CheckpointConfig.of({"weights": {}})
    with pytest.raises(runtree.Invalid, match="keep_last is given in two spellings"):
        CheckpointConfig.of({"keep-last": 3, "keep_last": 3})


# ---- One block for several processes.


def test_a_shared_block_fills_in_what_one_was_not_told() -> None:
    shared = CheckpointConfig.share({"interval": 10}, trainer={"skip_optimizer": True}, orchestrator=None)
    assert shared == {
        "trainer": CheckpointConfig(interval=10, skip_optimizer=True), "orchestrator": CheckpointConfig(interval=10)
    }  # fmt: skip
    assert CheckpointConfig.share(None, trainer=None, orchestrator=None) == {"trainer": None, "orchestrator": None}
    assert CheckpointConfig.share(CheckpointConfig(), trainer=None) == {"trainer": CheckpointConfig()}
    # Said twice the same.
    assert CheckpointConfig.share({"interval": 3}, trainer={"interval": 3})["trainer"] == CheckpointConfig(interval=3)


def test_what_is_of_the_whole_checkpoint_counts_for_all_if_one_says_it() -> None:
    config = CheckpointConfig.share(
        True, trainer={"keep_last": 2}, orchestrator={"keep_interval": 5, "output_dir": "o"}
    )
    assert config["trainer"] == config["orchestrator"] == (
        CheckpointConfig(keep_last=2, keep_interval=5, output_dir=Path("o"))
    )  # fmt: skip


def test_no_block_for_all_is_none_for_anybody() -> None:
    assert CheckpointConfig.share(False, trainer={"interval": 3}, orchestrator=True) == dict.fromkeys(BOTH)


def test_all_conflicts_between_blocks_are_told_at_once() -> None:
    with pytest.raises(runtree.Invalid) as raised:
        CheckpointConfig.share(
            {"interval": 3, "keep_last": 1},
            trainer={"interval": 4, "resume_step": 7, "keep_interval": 0},
            orchestrator={"resume_step": 8, "keep_last": 2},
        )
    assert [line.strip().split(": ")[0] for line in raised.value.message.splitlines()] == [
        "4 problems in the checkpoint blocks:", "trainer.ckpt.keep_interval 0 is less than 1",
        "ckpt.interval is 3, trainer.ckpt.interval 4", "ckpt.keep_last is 1, orchestrator.ckpt.keep_last 2",
        "trainer.ckpt.resume_step is 7, orchestrator.ckpt.resume_step 8",
    ]  # fmt: skip
    own = {"interval": 4, "keep_last": 1, "keep_interval": 2, "output_dir": "a"}
    with pytest.raises(
        runtree.Invalid,
        match=r"^4 problems(?s:.*)trainer.ckpt.output_dir is a, orchestrator.ckpt.output_dir b: a checkpoint",
    ):
        CheckpointConfig.share(
            None, trainer=own, orchestrator={"interval": 5, "keep_last": 2, "keep_interval": 3, "output_dir": "b"}
        )
    with pytest.raises(
        runtree.Invalid, match="ckpt.resume_step 3 and trainer.ckpt.resume_dir step_4 both say where to go on"
    ):
        CheckpointConfig.share({"resume_step": 3}, trainer={"resume_dir": "step_4"})
    with pytest.raises(runtree.Invalid, match="trainer.ckpt.interval is 4, orchestrator.ckpt.interval None"):
        CheckpointConfig.share(True, trainer={"interval": 4}, orchestrator=None)
    with pytest.raises(runtree.Invalid, match="trainer writes checkpoints and orchestrator does not"):
        CheckpointConfig.share(None, trainer=True, orchestrator=None)


# ---- pydantic, dataclasses, tyro.


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    max_steps: int = 40
    ckpt: CheckpointConfig | None = None


def test_a_field_of_a_pydantic_model() -> None:
    assert Model().ckpt is None
    assert Model.model_validate({"ckpt": {}}).ckpt == CheckpointConfig()
    model = Model.model_validate(
        {"ckpt": {"interval": 10, "keep-last": "3", "output_dir": "out", "resume_step": "None"}}
    )
    assert model.ckpt == CheckpointConfig(interval=10, keep_last=3, output_dir=Path("out"))
    assert Model(ckpt=model.ckpt) == model
    assert Model.model_validate(model.model_dump()) == model
    assert Model.model_validate_json(model.model_dump_json()) == model
    assert json.loads(model.model_dump_json())["ckpt"]["output_dir"] == "out"
    properties = Model.model_json_schema()["$defs"]["CheckpointConfig"]["properties"]
    assert list(properties) == [field.name for field in dataclasses.fields(CheckpointConfig)]


def test_pydantic_tells_every_problem_at_once() -> None:
    with pytest.raises(pydantic.ValidationError) as raised:
        Model.model_validate({"ckpt": {"interval": 0, "keep_last": "x", "intervals": 3}})
    [error] = raised.value.errors()
    assert error["loc"] == ("ckpt",)
    for part in (
        "3 problems",
        "intervals is no setting",
        "interval 0 is less than 1",
        "keep_last 'x' is not a whole number",
    ):
        assert part in error["msg"]


def test_pydantic_is_not_needed(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys; sys.modules['pydantic'] = sys.modules['pydantic_core'] = None\n"
    code += "import runtree; print(runtree.CheckpointConfig())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("CheckpointConfig(interval=None")


@dataclasses.dataclass
class Train:
    max_steps: int = 40
    ckpt: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)


@dataclasses.dataclass
class OptionalTrain:
    max_steps: int = 40
    ckpt: CheckpointConfig | None = None


def test_a_field_of_a_dataclass_that_tyro_reads() -> None:
    assert Train().ckpt == CheckpointConfig()
    assert dataclasses.asdict(OptionalTrain(ckpt=CheckpointConfig(interval=3)))["ckpt"]["interval"] == 3
    argv = [
        "--max-steps",
        "20",
        "--ckpt.interval",
        "10",
        "--ckpt.save-async",
        "--ckpt.keep-last",
        "3",
        "--ckpt.output-dir",
        "out",
    ]
    argv += ["--ckpt.keep-interval", "5", "--ckpt.resume-step", "-1"]
    train = tyro.cli(Train, args=[*argv, *[f"--ckpt.{skip.replace('_', '-')}" for skip in SKIPS]])
    assert train == Train(20, CheckpointConfig(
        interval=10, save_async=True, keep_last=3, keep_interval=5, output_dir=Path("out"), resume_step=-1,
        **dict.fromkeys(SKIPS, True),
    ))  # fmt: skip
    assert tyro.cli(OptionalTrain, args=[]).ckpt is None
    chosen = tyro.cli(OptionalTrain, args=["ckpt:checkpoint-config", "--ckpt.interval", "10"])
    assert chosen.ckpt == CheckpointConfig(interval=10)


def test_tyro_shows_what_is_wrong_and_what_fields_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tyro.cli(Train, args=["--help"])
    assert "Save after every so many steps" in " ".join(capsys.readouterr().out.replace("│", " ").split())
    with pytest.raises((SystemExit, runtree.Invalid)):
        tyro.cli(Train, args=["--ckpt.interval", "0"])
