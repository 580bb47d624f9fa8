"""Secrets never reach the store: what a run records about itself is cleaned before it is written."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import runtree
from runtree._redact import MARK, Redactor, is_secret_key, secret_values, without_credentials

ENVIRON = {
    "MY_API_KEY": "super-secret-value",
    "HF_TOKEN": "plainlookingvalue",
    "DB_PASSWORD": "pässwörd1",
    "SHORT_KEY": "1234567",
    "PATH": "/usr/bin:/bin",
    "TOKENIZERS_PARALLELISM": "false-or-true",
    "MONITOR": "monitoring",
    "GH_TOKEN_RO": "read-only-value",
    "MULTI_SECRET": "first line\nsecond line\nx",
    "AWS_SECRET_ACCESS_KEY": "a+b/c.d*e?f(g)",
    "KEYBOARD": "mechanical-thing",
}


def test_values_of_variables_that_name_secrets_are_secrets() -> None:
    found = set(secret_values(ENVIRON))
    assert found == {
        "super-secret-value",
        "plainlookingvalue",
        "pässwörd1",
        "read-only-value",
        "first line",
        "second line",
        "a+b/c.d*e?f(g)",
    }


@pytest.mark.parametrize(
    "secret",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAIOSFODNN7EXAMPLE",
        "hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345",
        "sk-abcdefghijklmnopqrstuvwxyz012345",
        "sk-proj-abc_DEF-ghijklmnopqrstuvwxyz0123456789",
        "sk-ant-api03-abcdefghijklmnopqrstuvwxyz",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz",
        "glpat-abcdefghijklmnopqrst",
        "xoxb-1234567890-abcdef",
        "AIzaSyA1234567890abcdefghijklmnopqrstu",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        *secret_values(ENVIRON),
    ],
)
@pytest.mark.parametrize("around", ["{}", "token {} end", 'key="{}"', "({})", "a/{}:b", "x={}&y=1"])
def test_no_secret_is_left_of_a_line(secret: str, around: str) -> None:
    cleaned = Redactor(ENVIRON)(around.format(secret))
    assert secret not in cleaned
    assert MARK in cleaned


@pytest.mark.parametrize(
    ("line", "cleaned"),
    [
        ("Authorization: Bearer abc.def-ghi_jkl=", f"Authorization: Bearer {MARK}"),
        ("{'authorization': 'Basic dXNlcjpwYXNz'}", f"{{'authorization': 'Basic {MARK}'}}"),
        ("curl -H 'authorization: bearer abcdefgh12'", f"curl -H 'authorization: bearer {MARK}'"),
        ("s3 at https://user:hunter2@host/path?x=1", f"s3 at https://user:{MARK}@host/path?x=1"),
        ("postgres://me:p%40ss@db:5432/x", f"postgres://me:{MARK}@db:5432/x"),
        ("WANDB_API_KEY=0123456789abcdef0123456789abcdef01234567", f"WANDB_API_KEY={MARK}"),
        ('{"password": "swordfish", "user": "me"}', f'{{"password": "{MARK}", "user": "me"}}'),
        ("api_key: abcdefgh", f"api_key: {MARK}"),
    ],
)
def test_what_is_around_a_secret_stays(line: str, cleaned: str) -> None:
    assert Redactor({})(line) == cleaned


@pytest.mark.parametrize(
    "line",
    [
        "step 3 loss 0.25 tokens: 1234567890 max_token=16384000",
        "commit 0123456789abcdef0123456789abcdef01234567",
        "see https://example.com/a:b@c",
        "the token is in $HF_TOKEN",
        "api_key=<your key>",
        "sk-learn is not a key",
        "ask-me-anything-about-it",
        "tokenizer=meta-llama/Llama-3",
        "hf_hub",
        "http://host:8080/x",
        "ratio 1:2 a=b",
        "Bearer of news",
        "password:",
        "",
        "AKIA",
        "secretary: somebody else",
        "keyboard=mechanical",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    assert Redactor({})(line) == line


@given(st.text(), st.text())
def test_it_never_fails_and_cleaning_twice_is_cleaning_once(line: str, value: str) -> None:
    redact = Redactor({"A_KEY": value})
    once = redact(line)
    assert redact(once) == once


def test_options_that_name_secrets_lose_their_values() -> None:
    redact = Redactor({})
    arguments = [
        "train.py",
        "--api-key",
        "abc",
        "--token=xyzw",
        "--lr",
        "0.1",
        "--max-token",
        "4096",
        "--sort-key",
        "loss",
        "--password",
        "--verbose",
        "--hf_token",
        "t",
        "key=value",
    ]
    assert redact.command(arguments) == (
        f"train.py --api-key {MARK} --token={MARK} --lr 0.1 --max-token 4096 --sort-key loss --password --verbose "
        f"--hf_token {MARK} key=value"
    )


def test_a_variable_that_is_set_later_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"A": "b"}
    redact = Redactor(environ)
    assert redact("later-value") == "later-value"
    environ["NEW_TOKEN"] = "later-value"
    later = time.monotonic() + 2
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert redact("later-value") == MARK


def test_names_of_secrets_and_urls_of_repositories() -> None:
    assert all(
        map(
            is_secret_key, ["api_key", "wandb.api-key", "password", "auth_token", "client_secret", "hf_token", "apikey"]
        )
    )
    assert not any(
        map(
            is_secret_key, ["key", "monkey", "tokenizer", "n_tokens", "token_type", "sort_key", "secretary", "num_keys"]
        )
    )
    assert without_credentials("https://user:token@github.com/a/b.git") == "https://github.com/a/b.git"
    assert without_credentials("https://token@github.com/a/b.git") == "https://github.com/a/b.git"
    assert without_credentials("git@github.com:a/b.git") == "git@github.com:a/b.git"


def test_a_config_is_left_alone_and_its_secrets_are_warned_of_once(start: Any) -> None:
    with pytest.warns(runtree.RuntreeWarning, match="model.api_key") as told:
        run = start(config={"model": {"api_key": "abcdefghij", "key": "x"}, "max_token": 4096, "token": "short"})
    assert len(told) == 1
    assert run.config["model"]["api_key"] == "abcdefghij"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.update_config({"other": {"password": "swordfish!"}})


PROGRAM = """
import logging, os, sys
early = logging.StreamHandler()
logging.getLogger("early").addHandler(early)
os.environ["LATE_TOKEN"] = "set-after-the-start"
import runtree
run = runtree.init("secrets", system_metrics=False)
print("value", os.environ["MY_SECRET_KEY"], flush=True)
sys.stdout.write("split " + os.environ["MY_SECRET_KEY"][:5]); sys.stdout.write(os.environ["MY_SECRET_KEY"][5:] + chr(10))
print("colour \\x1b[31m" + os.environ["MY_SECRET_KEY"][:5] + "\\x1b[0m" + os.environ["MY_SECRET_KEY"][5:])
logging.getLogger("early").error("late %s", os.environ["LATE_TOKEN"])
print("x" * 8185 + os.environ["MY_SECRET_KEY"])
print("no end " + os.environ["MY_SECRET_KEY"], end="")
raise ValueError("https://me:hunter22@host is gone, and " + os.environ["MY_SECRET_KEY"])
"""


def test_no_byte_of_a_store_holds_a_secret(tmp_path: Path) -> None:
    import os

    work = tmp_path / "program"
    work.mkdir()
    (work / "train.py").write_text(PROGRAM)
    secret = "correct horse battery"
    environ = {
        **os.environ,
        "MY_SECRET_KEY": secret,
        "RUNTREE_STORE": str(tmp_path / "store"),
        "GIT_CEILING_DIRECTORIES": str(tmp_path),
    }
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q", "."], cwd=work, check=True)
    subprocess.run([*git, "remote", "add", "origin", "https://me:hunter22@host/a.git"], cwd=work, check=True)
    subprocess.run([*git, "add", "."], cwd=work, check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], cwd=work, check=True)
    with open(work / "train.py", "a") as file:
        file.write(f"# {secret} and https://me:hunter22@host\n")
    answer = subprocess.run(
        [sys.executable, "train.py", "--api-key", "value-of-an-option", "--password=hunter22xyz"],
        cwd=work,
        env=environ,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 1, answer.stderr
    assert secret in answer.stdout
    run = runtree.Store(tmp_path / "store").runs()[0]
    lines = run.console()
    assert f"value {MARK}" in lines
    assert f"split {MARK}" in lines
    assert f"colour {MARK}" in lines
    assert f"no end {MARK}" in lines
    assert f"late {MARK}" in lines, "a handler that was made before is captured, a variable that was set later is seen"
    assert run.status == "failed"
    assert run.status_reason == f"ValueError: https://me:{MARK}@host is gone, and {MARK}"
    facts = run.processes()[0]["facts"]
    assert facts["command"] == f"train.py --api-key {MARK} --password={MARK}"
    assert facts["git_remote"] == "https://host/a.git"
    diff = run.file("git.diff").decode()
    assert f"+# {MARK} and https://me:{MARK}@host" in diff
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for word in (secret, "hunter22", "value-of-an-option", "set-after-the-start", "horse battery"):
                assert word.encode() not in data, (path, word)


def test_a_signal_while_something_is_redacted_may_redact_itself() -> None:
    inner: list[str] = []

    class Environ(dict[str, str]):
        def items(self) -> Any:
            # What a signal handler does that ends the run: it comes between any two instructions.
            if not inner:
                inner.append("")
                inner[0] = redact("plainlookingvalue")
            return super().items()

    redact = Redactor(Environ(HF_TOKEN="plainlookingvalue"))
    assert redact("plainlookingvalue") == MARK
    assert inner == [MARK]
