"""What is printed is kept as it looked in the end."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import runtree
from runtree._console import Capture, plain_line


class Kept:
    """What a capture gives away."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __call__(self, stream: str, lines: list[str]) -> None:
        self.lines += [(stream, line) for line in lines]

    def of(self, stream: str) -> list[str]:
        return [line for name, line in self.lines if name == stream]


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[io.StringIO, io.StringIO]]:
    """Puts streams in place, called by the test itself: pytest puts its own there when the test begins."""

    def put() -> tuple[io.StringIO, io.StringIO]:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        return out, err

    return put


def test_both_streams_are_kept_and_passed_on(streams: Any) -> None:
    out, err = streams()
    kept = Kept()
    capture = Capture(kept)
    print("out")
    print("err", file=sys.stderr)
    print("no end", end="")
    sys.stdout.writelines(["a\n", "b\n"])
    capture.stop()
    print("after")
    assert out.getvalue() == "out\nno enda\nb\nafter\n"
    assert err.getvalue() == "err\n"
    assert kept.of("stdout") == ["out", "no enda", "b"]
    assert kept.of("stderr") == ["err"]
    assert sys.stdout is out


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x1b[31mred\x1b[0m \x1b[1;38;5;9mbold\x1b[m", "red bold"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\rb\rc", "c"),
        ("windows\r", "windows"),
        ("\x1b[2K\rdone", "done"),
        ("tab\there", "tab\there"),
        ("bell\x07 nul\x00", "bell nul"),
        ("plain", "plain"),
        ("\x1b[A\x1b[Kup", "up"),
        ("\x1b(Bx", "x"),
        ("half \x1b[", "half ["),
    ],
)
def test_a_line_is_kept_as_it_looked(line: str, shown: str) -> None:
    assert plain_line(line) == shown


@given(st.lists(st.text(alphabet="ab\r\n ", max_size=30), max_size=20))
def test_lines_do_not_depend_on_how_they_were_written(parts: list[str]) -> None:
    whole, pieces = Kept(), Kept()
    for kept, texts in ((whole, ["".join(parts)]), (pieces, parts)):
        out, sys_out = io.StringIO(), sys.stdout
        sys.stdout = out
        try:
            capture = Capture(kept)
            for text in texts:
                sys.stdout.write(text)
            capture.stop()
        finally:
            sys.stdout = sys_out
    assert [line for line in whole.of("stdout") if line] == [line for line in pieces.of("stdout") if line]


def test_a_progress_bar_is_its_last_state(streams: Any) -> None:
    streams()
    kept = Kept()
    capture = Capture(kept)
    for step in range(10_000):
        sys.stderr.write(f"\r{step / 100:5.1f}% |{'#' * (step // 500):20}|")
    sys.stderr.write("\r100.0% |####################|\n")
    sys.stderr.write("\rsecond 1\rsecond 2")
    capture.stop()
    assert kept.of("stderr") == ["100.0% |####################|", "second 2"]


def test_a_program_that_prints_without_line_ends_fills_no_memory(streams: Any) -> None:
    streams()
    kept = Kept()
    capture = Capture(kept)
    for _ in range(1000):
        sys.stdout.write("word " * 20)
    capture.stop()
    assert "".join(kept.of("stdout")) == "word " * 20_000
    assert all(len(line) <= 8192 for line in kept.of("stdout"))


def test_handlers_of_logging_that_were_made_before_are_captured_and_given_back(streams: Any) -> None:
    _, err = streams()
    logger = logging.getLogger("captured")
    handler = logging.StreamHandler()
    other = logging.StreamHandler(io.StringIO())
    logger.handlers[:] = [handler, other]
    kept = Kept()
    capture = Capture(kept)
    logger.warning("hello")
    mine = io.StringIO()
    second = logging.StreamHandler(sys.stderr)
    capture.stop()
    logger.warning("after")
    assert kept.of("stderr") == ["hello"]
    assert handler.stream is err
    assert err.getvalue() == "hello\nafter\n"
    assert other.stream is not err
    second.stream = mine


def test_threads_do_not_tear_lines(streams: Any) -> None:
    streams()
    kept = Kept()
    capture = Capture(kept)
    threads = [
        threading.Thread(target=lambda n=n: [sys.stdout.write(f"{n} {at}\n") for at in range(200)]) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    capture.stop()
    assert sorted(kept.of("stdout")) == sorted(f"{n} {at}" for n in range(8) for at in range(200))


def test_levels_and_searches_find_lines(capsys: Any) -> None:
    run = runtree.init("x", system_metrics=False, environment=False)
    print("plain")
    print("INFO:root:begun", file=sys.stderr)
    print("WARNING: odd")
    print("ERROR: Broken", file=sys.stderr)
    run.finish()
    assert set(run.console(level="warning")) == {"WARNING: odd", "ERROR: Broken"}
    assert run.console(search="broken") == ["ERROR: Broken"]
    assert run.console(attempt=1, level="error") == ["ERROR: Broken"]
    assert run.console(rank=1) == []
    with pytest.raises(runtree.Invalid, match="not a level"):
        run.console(level="loud")
