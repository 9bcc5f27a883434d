"""What the papers report beside what the directories of a report say: a table a paper."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from edl_jax.study.report.evidence import HOLDS, HOLDS_NOT, RULES, UNCLEAR, Evidence
from edl_jax.study.report.grid import Grid
from edl_jax.study.report.page import NONE, Cell, Column, Items, Mark, Section, Table, Text
from edl_jax.study.report.sources import Source

MARKS: Mapping[str, Mark] = {
    HOLDS: Mark("✓", "the claim holds in these runs", "good"),
    HOLDS_NOT: Mark("✗", "the claim does not hold in these runs", "bad"),
    UNCLEAR: Mark("?", "these runs cannot tell"),
}
_NOT_MEASURED = "not measured in these directories"
_COLUMNS = ("claim", "reported", "ours", "n", "outcome", "where")


@cache
def claims() -> Mapping[str, Any]:
    """Return the papers and their claims, as claims.yaml has them."""
    return yaml.safe_load((Path(__file__).parent / "claims.yaml").read_text(encoding="utf-8"))


def section(grids: Sequence[Grid], sources: Sequence[Source]) -> Section:
    """Return the section on the claims of the papers.

    Args:
      grids: the directories of `compare`.
      sources: all directories.
    """
    found = claims()
    sections = []
    for paper, facts in found["papers"].items():
        chosen = [each for each in found["claims"] if each["paper"] == paper]
        rows = [row for each in chosen for row in _rows(each, grids, sources)]
        table = Table("Reported and measured", [Column(title, title == "n") for title in _COLUMNS], rows)
        rules = Items([f"{each['claim']}: holds where {each['holds']}." for each in chosen])
        sections.append(Section(facts["title"], [table, Text(facts["note"]), rules]))
    text = (
        "A line for each claim and measurement that speaks to it. What a paper reports is quoted from public sources; "
        "what is ours is of the directories of this page, whose networks and data may be far smaller than those of the "
        "papers: a claim that does not hold here is not refuted there."
    )
    return Section("The papers' claims beside ours", [Text(text)], sections)


def _rows(claim: Mapping[str, Any], grids: Sequence[Grid], sources: Sequence[Source]) -> list[list[Cell]]:
    told = RULES[claim["rule"]](grids, sources, **claim["options"])
    if not told:
        rest = (Cell(_NOT_MEASURED), Cell(NONE), Cell(NONE), Cell(NONE))
        return [[Cell(claim["claim"]), Cell(claim["reported"]), *rest]]
    return [[Cell(claim["claim"]), Cell(claim["reported"]), *_measured(each)] for each in told]


def _measured(evidence: Evidence) -> tuple[Cell, ...]:
    count = Cell(NONE) if evidence.n is None else Cell(str(evidence.n), float(evidence.n))
    outcome = Cell(evidence.outcome, mark=MARKS[evidence.outcome])
    return Cell(evidence.ours), count, outcome, Cell(evidence.where)
