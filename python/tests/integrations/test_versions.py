"""The table of ``docs/integrations/README.md``: every integration has a row, and no version in it is newer than what tests have."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

import runtree.integrations

from . import real_art

PAGE = Path(__file__).parents[3] / "docs" / "integrations" / "README.md"
TABLE = dict(re.findall(r"\b([a-z][a-z-]+) (\d+\.\d+(?:\.\d+)?)\b", PAGE.read_text()))


def test_every_integration_has_a_row_with_its_version() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    modules = {path.stem for path in Path(runtree.integrations.__file__).parent.glob("[a-z]*.py")}
    assert {"art", "orbax", "prime_rl"} <= modules
    for module in modules:
        [row] = [row for row in rows if f"({module.replace('_', '-')}.md)" in row]
        assert re.search(r"\d", row), row
    assert TABLE["openpipe-art"] == real_art._ART.partition("==")[2]
    assert len(TABLE) == 9


@pytest.mark.parametrize("package", sorted(TABLE.keys() - {"openpipe-art"}))
def test_what_is_installed_is_no_older_than_the_table_says(package: str) -> None:
    assert [int(part) for part in version(package).split(".")[:2]] >= [int(part) for part in TABLE[package].split(".")]
