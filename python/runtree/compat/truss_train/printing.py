"""A plan as ``runtree train --dry-run`` shows it. No value of a secret is in a plan, so none can be printed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtree.compat.truss_train.planning import Plan


def lines(plan: Plan) -> Iterator[str]:
    """One line a fact, under headings; what would not be done is not mentioned."""
    yield f"project {plan.project}" + (f", job {plan.job}" if plan.job else "")
    yield from _files(plan)
    yield from _under("runs, one after the other", (f"{at}. {each}" for at, each in enumerate(plan.commands, 1)))
    yield from _under("loads first", map(str, plan.checkpoints))
    yield from _under("directories", (_pair(each.purpose, each.path, each.asked) for each in plan.folders))
    yield from _under("sets", (f"{each.name}={each.value}" for each in plan.variables if each.value is not None))
    yield from _under("sets as configured", (f"{name}={value}" for name, value in plan.settings.items()))
    yield from _under(
        "sets to secrets",
        (
            f"{each.variable} (secret {each.name}) from ${each.source}" if each.source else f"{each.variable}: missing"
            for each in plan.secrets
        ),
    )
    yield from _under(
        "does not set", (f"{each.name}: only if {each.when}" for each in plan.variables if each.value is None)
    )
    yield from _under("note", plan.notices)
    yield from _under("can not run", plan.problems)


def _files(plan: Plan) -> Iterator[str]:
    files = plan.files
    yield from _under(
        "copies",
        (
            files.root + (f", without {', '.join(files.excluded)}" if files.excluded else ""),
            *(f"{path} beside it" for path in files.external),
            *([f"(runs in {files.folder})"] if files.folder != "." else []),
        ),
    )


def _pair(purpose: str, path: str, asked: str) -> str:
    return f"{purpose}: {path}" + (f", linked at {asked} if nothing is there" if path != asked else "")


def _under(heading: str, facts: Iterator[str] | map[str] | tuple[str, ...]) -> Iterator[str]:
    listed = [f"  {fact}" for fact in facts]
    if listed:
        yield f"{heading}:"
        yield from listed
