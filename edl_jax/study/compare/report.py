"""What a comparison leaves behind: result.json, report.md, cells.csv, comparison.csv and figures.

The columns are those of `gather.CELL_COLUMNS` and `statistics.Row`; docs/compare.md describes the files.
"""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from edl_jax.core.config import to_dict
from edl_jax.core.files import plain, read_json, write_atomic, write_csv, write_json
from edl_jax.core.stopping import Stop
from edl_jax.study.compare import figures, gather, markdown
from edl_jax.study.compare.config import CompareConfig
from edl_jax.study.compare.directory import locked, read_config
from edl_jax.study.compare.ledger import Ledger
from edl_jax.study.compare.plan import make_plan
from edl_jax.study.compare.statistics import METRICS, Row, make_table

RESULT, REPORT, CELLS, COMPARISON = "result.json", "report.md", "cells.csv", "comparison.csv"


def write(path: Path, config: CompareConfig | None, figure_format: str, stop: Stop | None = None) -> dict[str, Any]:
    """Write the report of what a grid's directory holds, and return the content of result.json.

    Where another process has written the same before, nothing is done.

    Args:
      path: directory of the grid.
      config: the grid; that of config.json where it is None.
      figure_format: of the figures: png, pdf or svg.
      stop: ends the waiting for another process that writes it.
    """
    with locked(path, stop):
        config = config or read_config(path)
        ledger = Ledger(path)
        result, rows = content(config, ledger)
        groups = gather.groups(config, ledger)
        before = None
        with contextlib.suppress(OSError, ValueError):
            before = read_json(path / RESULT)
        if before != plain(result):
            columns = [field.name for field in dataclasses.fields(Row)]
            for name, header, lines in (
                (CELLS, list(gather.CELL_COLUMNS), result["cells"]),
                (COMPARISON, columns, result["comparison"]),
            ):
                write_csv(path / name, header, [[plain(line)[column] for column in header] for line in lines])
            write_atomic(path / REPORT, markdown.write(config, rows, result).encode())
            write_json(path / RESULT, result)
        figures.draw(path / "figures", config, rows, groups, figure_format, anew=before != plain(result))
    return result


def content(config: CompareConfig, ledger: Ledger) -> tuple[dict[str, Any], list[Row]]:
    """Return the content of result.json, and its table."""
    plan = make_plan(config, ledger)
    rows = make_table(config, gather.groups(config, ledger))
    cells = gather.records(config, ledger)
    result = {
        "complete": plan.unknown == 0 and all(cell["state"] != "open" for cell in cells),
        "config": to_dict(config),
        "baseline": config.baseline_loss,
        "metrics": [
            {
                "name": metric.name,
                "title": metric.title,
                "better": "higher" if metric.sign > 0 else "lower",
                "unit": metric.unit,
                "margin": metric.margin(config),
            }
            for metric in METRICS
        ],
        "comparison": [dataclasses.asdict(row) for row in rows],
        "tuning": gather.tuning(config, ledger),
        "cells": cells,
    }
    return result, rows


def summary_lines(result: dict[str, Any]) -> list[str]:
    """Return what a person is told of a comparison: the accuracy of every loss, and the verdict."""
    lines = []
    place = None
    for row in (Row(**each) for each in result["comparison"]):
        if row.metric != "accuracy" or row.mean is None:
            continue
        if row.place != place:
            place = row.place
            noise = f", {100 * row.label_noise:g} % wrong labels" if row.label_noise else ""
            lines.append(f"{row.mode}, {row.arch} on {row.dataset}{noise}:")
        text = f"  {row.loss:<28} {100 * row.mean:6.2f} %  n = {row.n:<3}"
        if row.is_baseline:
            text += "  baseline"
        elif row.difference is not None:
            p = "" if row.p_holm is None else f"  p = {row.p_holm:.3g}"
            text += f"  {100 * row.difference:+.2f}{p}  {row.verdict}"
        lines.append(text)
    return lines
