"""The pages under ``docs/integrations/``: their code runs as it is shown, and does what the page says."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

PAGES = Path(__file__).parents[3] / "docs" / "integrations"


def code(page: Path) -> str:
    """The page's Python; line numbers of errors are those of the page."""
    text = page.read_text()
    kept: list[str] = []
    inside = False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = line == "```python"
            kept.append("")
        else:
            kept.append(line if inside else "")
    return "\n".join(kept)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_the_code_of_the_page_runs_as_it_is_shown(page: Path) -> None:
    """What a page takes for granted, and what is asked afterwards, is in ``docs_<page>.py``: ``given()`` and ``check(names)``."""
    beside = Path(__file__).with_name(f"docs_{page.stem.replace('-', '_')}.py")
    told: Any = import_module(f".{beside.stem}", __package__) if beside.exists() else None
    names: dict[str, Any] = told.given() if told is not None else {}
    source = code(page)
    assert source.strip(), f"{page} shows no code"
    exec(compile(source, str(page), "exec", dont_inherit=True), names)
    if told is not None:
        told.check(names)


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_links_of_the_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target
