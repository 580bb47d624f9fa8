"""The checkpoint block on a command line: argparse, TOML files, any other parser; all problems at once, and back to flags."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any

import pydantic
import pytest
import tyro
from hypothesis import given
from hypothesis import strategies as st

import runtree
from runtree import CheckpointConfig

BOTH = ("trainer", "orchestrator")
SKIPS = ("skip_progress", "skip_scheduler", "skip_dataloader", "skip_optimizer")


class Model(pydantic.BaseModel):
    ckpt: CheckpointConfig | None = None


def parser(components: tuple[str, ...] = ()) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="train")
    made.add_argument("--max-steps", type=int)
    made.add_argument("--quiet", action="store_true")
    CheckpointConfig.add_arguments(made, components=components)
    return made


def block(*argv: str) -> CheckpointConfig | None:
    return CheckpointConfig.from_arguments(parser().parse_args(argv))


def blocks(*argv: str) -> list[CheckpointConfig | None]:
    args = parser(BOTH).parse_args(argv)
    return [CheckpointConfig.from_arguments(args, component) for component in BOTH]


def problems(*argv: str, components: tuple[str, ...] = ()) -> list[str]:
    """What is wrong with a command line, without what to do."""
    with pytest.raises(runtree.Invalid) as raised:
        CheckpointConfig.from_arguments(parser(components).parse_args(argv), components[0] if components else None)
    lines = raised.value.message.splitlines()
    return [lines[0]] if raised.value.hint else [line.strip() for line in lines[1:]]


def written(name: str, text: str) -> str:
    Path(name).write_text(text)
    return name


# ---- argparse.


def test_without_a_flag_there_is_no_block() -> None:
    assert block() is None
    assert block("--max-steps", "20") is None
    assert block("--no-ckpt") is None
    assert blocks() == [None, None]


def test_ckpt_alone_is_the_defaults() -> None:
    assert block("--ckpt") == CheckpointConfig()
    assert block("--max-steps", "20", "--ckpt", "--quiet") == CheckpointConfig()


@pytest.mark.parametrize(
    ("flag", "expected"),
    [("--ckpt.interval 10", {"interval": 10}), ("--ckpt.keep-last 3", {"keep_last": 3}), ("--ckpt.keep_last=3", {"keep_last": 3}),
     ("--ckpt.keep-interval 100", {"keep_interval": 100}), ("--ckpt.save-async", {"save_async": True}),
     ("--no-ckpt.save-async", {"save_async": False}), ("--ckpt.resume-step 20", {"resume_step": 20}),
     ("--ckpt.resume-step -1", {"resume_step": -1}), ("--ckpt.output-dir out", {"output_dir": Path("out")}),
     ("--ckpt.interval None", {}), *((f"--ckpt.{skip.replace('_', '-')}", {skip: True}) for skip in SKIPS)],
)  # fmt: skip
def test_every_flag_of_the_document_means_a_block_with_it(flag: str, expected: dict[str, Any]) -> None:
    assert block(*flag.split()) == CheckpointConfig(**expected)
    assert blocks(*flag.split()) == [CheckpointConfig(**expected)] * 2
    own = [each.replace("--", "--trainer.", 1).replace("--trainer.no-", "--no-trainer.") for each in flag.split()]
    if "interval" not in expected and "resume_step" not in expected:
        assert blocks("--ckpt", *own)[0] == CheckpointConfig(**expected)


def test_the_new_spelling_of_a_resume() -> None:
    assert block("--ckpt", "--resume") == CheckpointConfig(resume_step=-1)
    assert block("--ckpt", "--resume.step", "20") == block("--ckpt.resume-step", "20")
    assert block("--ckpt", "--resume", "--resume.step", "20") == CheckpointConfig(resume_step=20)
    assert block("--ckpt", "--resume.dir", "a/step_3") == CheckpointConfig(resume_dir=Path("a/step_3"))
    # Nothing is written without --ckpt.
    assert block("--resume") == CheckpointConfig(resume_step=-1, load_only=True)
    assert blocks("--resume.step", "4") == [CheckpointConfig(resume_step=4, load_only=True)] * 2
    assert block("--resume", "--no-ckpt", "--ckpt.skip-optimizer") == (
        CheckpointConfig(resume_step=-1, load_only=True, skip_optimizer=True)
    )
    # The old and the new one may say the same.
    assert block("--ckpt.resume-step", "5", "--resume.step", "5") == CheckpointConfig(resume_step=5)


def test_all_problems_of_a_command_line_are_told_at_once_as_flags() -> None:
    found = problems(
        "--ckpt.interval",
        "0",
        "--ckpt.keep-last",
        "x",
        "--ckpt.resume-step",
        "3",
        "--resume",
        "--ckpt.keep-interval=-4",
    )
    assert [line.split(": ")[0] for line in found] == [
        "--ckpt.interval 0 is less than 1", "--ckpt.keep-last 'x' is not a whole number", "--ckpt.keep-interval -4 is less than 1",
        "--ckpt.resume-step 3 and --resume (the newest checkpoint) differ",
    ]  # fmt: skip
    assert problems("--resume.step", "1", "--resume.dir", "step_3") == [
        "--ckpt.resume-step 1 and --resume.dir step_3 both say where to go on"
    ]


def test_flags_that_turn_off_what_others_ask_for_are_a_contradiction() -> None:
    assert problems("--no-ckpt", "--ckpt") == ["--no-ckpt and --ckpt contradict each other"]
    assert problems("--ckpt.keep_last", "3", "--no-ckpt") == ["--no-ckpt and --ckpt.keep_last contradict each other"]
    assert problems("--no-resume", "--ckpt.resume-step", "3") == [
        "--no-resume and --ckpt.resume-step contradict each other"
    ]
    found = problems(
        "--no-ckpt", "--trainer.ckpt.interval", "3", "--no-resume", "--orchestrator.resume", components=BOTH
    )
    assert [line.split(": ")[0] for line in found] == [
        "--no-ckpt and --trainer.ckpt.interval contradict each other", "--no-resume and --orchestrator.resume contradict each other",
    ]  # fmt: skip


def test_one_block_configures_trainer_and_orchestrator() -> None:
    assert blocks("--ckpt") == [CheckpointConfig()] * 2
    assert blocks("--ckpt.interval", "5", "--trainer.ckpt.skip-optimizer") == [
        CheckpointConfig(interval=5, skip_optimizer=True), CheckpointConfig(interval=5),
    ]  # fmt: skip
    assert blocks("--trainer.ckpt.interval", "5", "--orchestrator.ckpt.interval", "5", "--trainer.ckpt.keep-last", "2") == [
        CheckpointConfig(interval=5, keep_last=2)
    ] * 2  # fmt: skip


def test_all_conflicts_between_components_are_told_at_once_as_flags() -> None:
    found = problems(
        "--ckpt.interval", "5", "--trainer.ckpt.interval", "6", "--trainer.resume.step", "7", "--orchestrator.ckpt.resume-step", "8",
        "--ckpt.output-dir", "a", "--orchestrator.ckpt.output-dir", "b", components=BOTH,
    )  # fmt: skip
    assert [line.split(": ")[0] for line in found] == [
        "--ckpt.interval is 5, --trainer.ckpt.interval 6", "--ckpt.output-dir is a, --orchestrator.ckpt.output-dir b",
        "--trainer.ckpt.resume-step is 7, --orchestrator.ckpt.resume-step 8",
    ]  # fmt: skip
    assert problems("--trainer.ckpt", components=BOTH) == [
        "trainer writes checkpoints and orchestrator does not, so none would be whole"
    ]
    assert problems("--ckpt", "--no-orchestrator.ckpt", components=BOTH)[0].startswith("trainer writes checkpoints")


def test_what_argparse_can_not_read_is_its_own_error(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, said in (
        (["--ckpt", "3"], "argument --ckpt: '3' is not what follows (@ FILE, or the next flag"),
        (["--ckpt.interval"], "argument --ckpt.interval: expected one argument"),
        (["--ckpt.weights", "3"], "unrecognized arguments: --ckpt.weights"),
        (["--ckpt.load-only"], "unrecognized arguments: --ckpt.load-only"),
        (["@", "nothing.toml"], "there is no file nothing.toml"),
        (["--ckpt", "@"], "'@' is not what follows"),
        (["@"], "@ is followed by a TOML file"),
    ):
        with pytest.raises(SystemExit):
            parser().parse_args(argv)
        assert said in capsys.readouterr().err


def test_the_help_has_every_flag_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser(BOTH).parse_args(["--help"])
    options = capsys.readouterr().out.partition("checkpoints:\n")[2]
    flags = re.findall(r"^  (--[^ \n]+)", options, re.MULTILINE)
    fields = [f"--ckpt.{field.name.replace('_', '-')}" for field in dataclasses.fields(CheckpointConfig)]
    for left in ("--ckpt.resume-dir", "--ckpt.load-only"):
        fields.remove(left)
    own = [flag for component in BOTH for flag in (f"--{component}", f"--{component}.ckpt")]
    assert sorted(flags) == sorted([*fields, "--ckpt", "--no-ckpt", "--resume", "--resume.step", "--resume.dir", *own])


def test_mistakes_of_the_program_are_told() -> None:
    with pytest.raises(runtree.Invalid, match="no flags of checkpoints"):
        CheckpointConfig.from_arguments(argparse.Namespace())
    args = parser(BOTH).parse_args([])
    for wrong in (None, "inference"):
        with pytest.raises(
            runtree.Invalid, match="not one of those the parser was told\nhint: there are 'trainer', 'orchestrator'"
        ):
            CheckpointConfig.from_arguments(args, wrong)
    with pytest.raises(runtree.Invalid, match="none: leave it out"):
        CheckpointConfig.from_arguments(parser().parse_args([]), "trainer")
    with pytest.raises(runtree.Invalid, match="two meanings of one sign"):
        CheckpointConfig.add_arguments(argparse.ArgumentParser(fromfile_prefix_chars="@"))
    for name in ("ckpt", "a.b", ""):
        with pytest.raises(runtree.Invalid, match="is not a name that a flag can have"):
            CheckpointConfig.add_arguments(argparse.ArgumentParser(), components=(name,))


# ---- TOML files.


def test_files_are_read_in_their_order_and_the_command_line_wins() -> None:
    first = written("a.toml", "max_steps = 3\n[ckpt]\ninterval = 5\nkeep-last = 2\n[model]\nname = 'x'\n")
    second = written("b.toml", "[ckpt]\ninterval = 7\n[model]\nsize = 4\n")
    for argv in (["@", first, "@", second], [f"@{first}", f"@{second}"], ["--max-steps", "3", "@", first, "@", second]):
        args = parser().parse_args(argv)
        assert CheckpointConfig.from_arguments(args) == CheckpointConfig(interval=7, keep_last=2)
        assert args.settings == {"max_steps": 3, "model": {"name": "x", "size": 4}}
    # Wherever the flag stands.
    for argv in (["--ckpt.keep_last", "9", "@", first], ["@", first, "--ckpt.keep-last", "9"]):
        assert block(*argv) == CheckpointConfig(interval=5, keep_last=9)
    assert block("@", first, "--ckpt.interval", "None") == CheckpointConfig(keep_last=2)
    assert block("@", first, "--no-ckpt") is None


def test_a_file_of_the_block_and_of_each_component() -> None:
    ckpt = written("ckpt.toml", "interval = 5\nsave_async = true\n")
    assert block("--ckpt", "@", ckpt) == CheckpointConfig(interval=5, save_async=True)
    assert block("--ckpt", f"@{ckpt}", "--ckpt.interval", "6") == CheckpointConfig(interval=6, save_async=True)
    train = written("train.toml", "max_steps = 20\n[ckpt]\ninterval = 5\n[optim]\nlr = 0.1\n")
    orch = written("orch.toml", "batch = 8\n[ckpt]\ninterval = 5\nkeep_last = 3\n")
    args = parser(BOTH).parse_args(
        ["--trainer", "@", train, "--orchestrator", f"@{orch}", "--max-steps", "10", "--ckpt"]
    )
    assert [CheckpointConfig.from_arguments(args, each) for each in BOTH] == [
        CheckpointConfig(interval=5, keep_last=3)
    ] * 2
    assert args.trainer == {"max_steps": 20, "optim": {"lr": 0.1}}
    assert (args.orchestrator, args.settings, args.max_steps) == ({"batch": 8}, {}, 10)
    two = parser(BOTH).parse_args(["--trainer", "@", train, "@", written("more.toml", "[optim]\nlr = 0.2\n"), "--ckpt"])
    assert two.trainer["optim"] == {"lr": 0.2}
    whole = written(
        "rl.toml", "seed = 1\n[ckpt]\ninterval = 5\n[trainer]\nmax_steps = 2\n[trainer.ckpt]\nskip-optimizer = true\n"
    )
    args = parser(BOTH).parse_args(["@", whole])
    assert CheckpointConfig.from_arguments(args, "trainer") == CheckpointConfig(interval=5, skip_optimizer=True)
    assert (args.settings, args.trainer) == ({"seed": 1}, {"max_steps": 2})


def test_a_file_may_say_none_and_resume() -> None:
    assert block("@", written("none.toml", 'ckpt = "None"\n')) is None
    assert block("@", written("empty.toml", "[ckpt]\n")) == CheckpointConfig()
    assert block("@", written("resume.toml", "[ckpt]\n[resume]\nstep = 4\n")) == CheckpointConfig(resume_step=4)
    assert block("@", "resume.toml", "--no-resume") == CheckpointConfig()
    assert block("@", written("old.toml", "[ckpt]\nresume_step = 4\n"), "--no-resume") == CheckpointConfig()
    assert block("@", "old.toml", "--no-ckpt") == CheckpointConfig(resume_step=4, load_only=True)
    assert blocks("@", written("own.toml", "[trainer.resume]\n[trainer.ckpt]\n"), "--no-ckpt", "--no-resume") == [
        None,
        None,
    ]


def test_what_is_wrong_in_a_file_is_told_with_all_else() -> None:
    bad = written("bad.toml", "[ckpt]\nintervals = 3\nkeep_last = 0\nload_only = true\n[resume]\nsteps = 4\n")
    assert [line.split(": ")[0] for line in problems("@", bad, "--ckpt.interval", "-1")] == [
        "--ckpt.intervals is no setting of checkpoints", "--ckpt.load-only is no setting of checkpoints",
        "--ckpt.keep-last 0 is less than 1", "--ckpt.interval -1 is less than 1", "resume.steps is no setting",
    ]  # fmt: skip
    assert problems("@", written("list.toml", "ckpt = [1]\nresume = 3\n")) == [
        "--ckpt [1] is not a table of settings: [ckpt] with settings below, or \"None\"",
        "resume 3 is not a table of settings: [resume] with step or dir below it",
    ]  # fmt: skip


def test_files_that_can_not_be_read_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    for name, text, said in (
        ("a.toml", "[ckpt\n", "a.toml is not a TOML file: "),
        ("b.toml", 'toml_files = ["a.toml"]\n', "b.toml names other files in toml_files, which are not read"),
    ):
        with pytest.raises(SystemExit):
            parser().parse_args(["@", written(name, text)])
        assert said in capsys.readouterr().err
    Path("folder").mkdir()
    with pytest.raises(runtree.Invalid, match="argument --ckpt: folder is not a TOML file"):
        CheckpointConfig.parse(["--ckpt", "@", "folder"])


def test_a_python_without_a_toml_reader_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtree._checkpoint_files.import_module", lambda name: importlib.import_module(f"no_{name}"))
    with pytest.raises(runtree.Invalid, match="needs Python 3.11 or tomli .pip install tomli"):
        CheckpointConfig.parse(["@", written("a.toml", "")])


# ---- Without a parser, and back.


def test_parse_takes_its_own_and_leaves_the_rest_in_order() -> None:
    first = written("a.toml", "lr = 1\n[ckpt]\ninterval = 5\n")
    argv = ["train", "--lr", "3", "--ckpt.keep-last", "2", "--model", "@", "model.toml", "--x=1", "--", "--ckpt"]
    parsed = CheckpointConfig.parse(["@", first, *argv])
    assert parsed.config == CheckpointConfig(interval=5, keep_last=2)
    assert parsed.settings == {"lr": 1}
    assert parsed.rest == ["train", "--lr", "3", "--model", "@", "model.toml", "--x=1", "--", "--ckpt"]
    with pytest.raises(runtree.Invalid, match="expected one argument"):
        CheckpointConfig.parse(["--ckpt.interval"])
    both = CheckpointConfig.parse(["--ckpt", "--trainer.ckpt.skip-progress"], components=BOTH, component="trainer")
    assert both.config == CheckpointConfig(skip_progress=True)


def test_parse_reads_the_programs_own_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", "--ckpt", "rest"])
    monkeypatch.setattr("sys.argv", ["train.py", "rest", "--ckpt"])
    assert CheckpointConfig.parse() == (CheckpointConfig(), {}, ["rest"])


counts = st.none() | st.integers(1, 2**32 - 1)
switches = st.booleans()


@given(
    st.fixed_dictionaries({
        "interval": counts, "keep_last": counts, "keep_interval": counts, "resume_step": st.none() | st.integers(-1, 2**63 - 1),
        "save_async": switches, **dict.fromkeys(SKIPS, switches), "output_dir": st.none() | st.just(Path("a b/-c")),
    })
)  # fmt: skip
def test_flags_of_a_block_say_the_same(fields: dict[str, Any]) -> None:
    config = CheckpointConfig(**fields)
    assert block(*config.arguments()) == config
    own = config.arguments("trainer") + config.arguments("orchestrator")
    assert blocks(*own) == [config] * 2
    assert CheckpointConfig.of(dataclasses.asdict(config)) == config
    assert Model.model_validate(Model(ckpt=config).model_dump(mode="json")).ckpt == config


def test_flags_of_a_block_that_writes_nothing() -> None:
    config = CheckpointConfig(resume_dir=Path("step_3"), load_only=True, skip_optimizer=True)
    assert config.arguments() == ["--no-ckpt", "--ckpt.skip-optimizer", "--resume.dir=step_3"]
    assert block(*config.arguments()) == config


def test_tyro_reads_the_rest_of_a_command_line() -> None:
    @dataclasses.dataclass
    class Rest:
        max_steps: int = 40

    config, settings, rest = CheckpointConfig.parse(["--ckpt", "--max-steps", "20"])
    assert tyro.cli(Rest, args=rest) == Rest(20)
    assert (config, settings) == (CheckpointConfig(), {})
