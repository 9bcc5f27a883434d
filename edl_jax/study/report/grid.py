"""A grid of `compare` for a report: what its result.json says, setting by setting."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from edl_jax.core.config import override
from edl_jax.core.errors import UserError
from edl_jax.study.compare import CompareConfig
from edl_jax.study.compare.cells import DROP_IN, Setting
from edl_jax.study.compare.directory import read_config
from edl_jax.study.compare.ledger import Ledger
from edl_jax.study.compare.report import content
from edl_jax.study.compare.statistics import METRICS, Group, Metric, Row
from edl_jax.study.loss_spec import parse_loss
from edl_jax.study.report.page import SEVERAL_REVISIONS, Cell, Column, Mark, Table, best_of, cell, interval
from edl_jax.study.report.sources import Source

MARKS: Mapping[str, Mark] = {
    "better": Mark("▲", "better than the baseline: p (Holm) below 0.05", "good"),
    "worse": Mark("▼", "worse than the baseline: p (Holm) below 0.05", "bad"),
    "level": Mark("=", "level with the baseline: surely within the margin"),
    "open": Mark("○", "open: these seeds tell neither"),
    "diverged": Mark("✕", "a run diverged: the mean of the others proves nothing", "bad"),
}
_LOSS = Column("loss")
_TESTS = (
    Column("difference", True, "loss minus baseline over common seeds, with its 95 % interval"),
    Column("p", True, "of a paired t test, named beforehand"),
    Column("p (Holm)", True, "corrected over all comparisons of the metric"),
    Column("g", True, "Hedges' g, the difference over the spread of runs"),
    Column("level: p", True, "of equivalence within the margin, corrected by Holm's method"),
    Column("verdict"),
)


class Grid(NamedTuple):
    """What a directory of `compare` holds.

    Attributes:
      source: the directory.
      config: the grid.
      result: content of result.json.
      rows: its table of comparisons.
    """

    source: Source
    config: CompareConfig
    result: Mapping[str, Any]
    rows: Sequence[Row]

    @property
    def places(self) -> list[tuple[str, str, str, float]]:
        """Return (mode, model, data set, share of wrong labels) of the settings, in their order."""
        return list(dict.fromkeys(row.place for row in self.rows))

    def at(self, place: tuple[str, str, str, float], metric: str | None = None) -> list[Row]:
        """Return the rows of a setting, and of a metric where one is given."""
        return [row for row in self.rows if row.place == place and metric in (None, row.metric)]

    def cells(self, place: tuple[str, str, str, float], loss: str) -> list[Mapping[str, Any]]:
        """Return the finished cells of a loss in a setting."""
        mode, *setting = place
        return [
            each
            for each in self.result["cells"]
            if each["state"] == "done"
            and mode in each["role"].split("+")
            and [each["arch"], each["dataset"], each["label_noise"]] == setting
            and each["loss"] == loss
        ]

    def groups(self) -> list[Group]:
        """Return the runs that the rows are made of, as the figures of `compare` take them."""
        found = {}
        for row in self.rows:
            cells = self.cells(row.place, row.loss)
            results = {each["seed"]: each for each in cells}
            group = Group(*row.place, row.loss, results, row.diverged, row.missing, row.lr, ())
            found[(row.place, row.loss)] = group
        return list(found.values())


def read(source: Source) -> Grid:
    """Return the grid of a directory; of one that is not finished, what is there.

    Raises:
      UserError: it is not what a `compare` of this release writes.
    """
    try:
        if source.result is None:
            config = read_config(source.path)
            result, rows = content(config, Ledger(source.path))
            return Grid(source, config, result, rows)
        config = override(CompareConfig(), source.result["config"], source=str(source.path / "result.json"))
        known = {name: source.result[name] for name in ("complete", "baseline", "comparison", "tuning", "cells")}
        rows = [Row(**row) for row in known["comparison"]]
        grid = Grid(source, config, known, rows)
        for place in grid.places:  # whatever it lacks, it lacks here
            grid.cells(place, "")
        return grid
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{source.path / 'result.json'} is not what this release writes ({type(error).__name__}: {error}): write "
            f"it again with compare --report-only --out {source.path}, or leave that directory out"
        ) from error


def missing(grid: Grid) -> str | None:
    """Return what a grid lacks, in words; None of a complete one."""
    states = collections.Counter(each["state"] for each in grid.result["cells"])
    if grid.result["complete"] and grid.source.result is not None:
        return None
    total = sum(states.values())
    lacking = f"{states['open']} of {total} cells have not been run" if states["open"] else "cells are still unknown"
    return f"{grid.source.name} is not complete: {lacking}. The numbers below are those of the cells that are there."


def title_of(place: tuple[str, str, str, float], grid: Grid) -> str:
    """Return what a setting is called."""
    title = Setting(*place[1:]).title
    if not grid.config.tune_lr:
        return title
    return f"{title}, " + ("one rate for all" if place[0] == DROP_IN else "each loss at its own rate")


def overview(grid: Grid, place: tuple[str, str, str, float]) -> Table:
    """Return the table of a setting: a loss a line, a metric a column, with signs for the verdicts."""
    metrics = [metric for metric in METRICS if grid.at(place, metric.name)]
    columns = [_LOSS, Column("lr", True), Column("n", True, "runs that finished")]
    columns += [Column(_titled(metric), True) for metric in metrics]
    columns += [Column("train accuracy (%)", True), Column("temperature", True)]
    rows = []
    for row in grid.at(place, METRICS[0].name):
        cells = grid.cells(place, row.loss)
        line = [_name(row), cell(row.lr, "g"), _count(row)]
        for metric in metrics:
            (found,) = [each for each in grid.at(place, metric.name) if each.loss == row.loss]
            digits = 2 if metric.in_points else 4
            shown = interval(found.mean, found.low, found.high, unit=metric.unit, digits=digits)
            line.append(shown._replace(mark=MARKS.get(found.verdict)))
        line.append(cell(_mean(cells, "train_accuracy"), ".2f", unit=100.0))
        line.append(cell(_mean(cells, "temperature"), ".3f"))
        rows.append(line)
    for place_of, metric in enumerate(metrics, 3):
        rows = best_of(rows, place_of, "higher" if metric.sign > 0 else "lower")
    return Table("Means over seeds", columns, rows)


def tests(grid: Grid, place: tuple[str, str, str, float]) -> list[Table]:
    """Return the tables of differences to the baseline: of the primary metric, and of the others."""
    primary, *others = METRICS
    baseline = parse_loss(grid.config.baseline_loss).title
    first = [
        [_name(row), *_against(primary, row), cell(row.seeds_needed, ",")]
        for row in grid.at(place, primary.name)
        if not row.is_baseline
    ]
    needed = f"seeds that show {grid.config.detect:g} points with a power of 80 %"
    found = [
        Table(
            f"Test accuracy (%) minus that of {baseline}", [_LOSS, *_TESTS, Column("seeds needed", True, needed)], first
        )
    ]
    rest = [
        [Cell(_titled(metric)), _name(row), *_against(metric, row)]
        for metric in others
        for row in grid.at(place, metric.name)
        if not row.is_baseline
    ]
    found.append(Table(f"Other metrics minus those of {baseline}", [Column("metric"), _LOSS, *_TESTS], rest))
    return [table for table in found if table.rows]


def by_seed(grid: Grid, place: tuple[str, str, str, float]) -> Table:
    """Return the test accuracies of a setting, seed by seed."""
    columns = [_LOSS, *(Column(f"seed {seed}", True) for seed in grid.config.seeds)]
    rows = []
    for row in grid.at(place, METRICS[0].name):
        values = {each["seed"]: each["test_accuracy"] for each in grid.cells(place, row.loss)}
        rows.append([_name(row), *(cell(values.get(seed), ".2f", unit=100.0) for seed in grid.config.seeds)])
    for column in range(1, len(columns)):
        rows = best_of(rows, column, "higher")
    return Table("Test accuracy (%) by seed", columns, rows)


def tuning(grid: Grid) -> list[Table]:
    """Return what tuning found, a table a setting."""
    by_setting: dict[str, list[Mapping[str, Any]]] = {}
    for row in grid.result["tuning"]:
        title = Setting(row["arch"], row["dataset"], row["label_noise"]).title
        by_setting.setdefault(title, []).append(row)
    tables = []
    for title, found in by_setting.items():
        rates = list(dict.fromkeys(rate["lr"] for row in found for rate in row["rates"]))
        rows = []
        for row in found:
            scores = {rate["lr"]: rate["val_accuracy"] for rate in row["rates"]}
            note = "at an end" if row["edge"] else ("" if row["lr"] or not row["settled"] else "no rate works")
            shown = [cell(scores.get(lr), ".2f", unit=100.0)._replace(best=lr == row["lr"]) for lr in rates]
            rows.append([Cell(parse_loss(row["loss"]).title), *shown, cell(row["lr"], "g"), Cell(note)])
        columns = [_LOSS, *(Column(f"lr {lr:g}", True) for lr in rates), Column("chosen", True), Column("note")]
        tables.append(Table(title, columns, rows))
    return tables


def failures(grid: Grid) -> Table:
    """Return the cells that have failed."""
    rows = [
        [Cell(each["name"]), cell(each["role"]), cell(each["state"]), cell(each["error"])]
        for each in grid.result["cells"]
        if each["error"]
    ]
    return Table("Failed cells", (Column("cell"), Column("role"), Column("state"), Column("what it said")), rows)


def revisions(grid: Grid) -> Table | None:
    """Return the revisions of the code that made the cells, where there are several."""
    count = collections.Counter(str(each["revision"]) for each in grid.result["cells"] if each["state"] == "done")
    if len(count) < 2:
        return None
    rows = [[Cell(revision, code=True), cell(number)] for revision, number in count.items()]
    return Table("Revisions of the code", (Column("revision"), Column("cells", True)), rows)


def _name(row: Row) -> Cell:
    title = parse_loss(row.loss).title + (" (baseline)" if row.is_baseline else "")
    return Cell(title + (f" {SEVERAL_REVISIONS}" if row.revisions > 1 else ""))


def _count(row: Row) -> Cell:
    text = str(row.n)
    text += f" + {row.diverged} diverged" if row.diverged else ""
    text += f", {row.missing} missing" if row.missing else ""
    return Cell(text, float(row.n))


def _against(metric: Metric, row: Row) -> list[Cell]:
    digits = 2 if metric.in_points else 4
    bounds = (row.difference, row.difference_low, row.difference_high)
    mark = MARKS.get(row.verdict)
    return [
        interval(*bounds, unit=metric.unit, digits=digits, sign="+")._replace(mark=mark),
        cell(row.p, ".3g"),
        cell(row.p_holm, ".3g"),
        cell(row.hedges_g, ".2f"),
        cell(row.tost_p_holm, ".3g"),
        Cell(row.verdict, mark=mark),
    ]


def _titled(metric: Metric) -> str:
    if metric.name.startswith("accuracy"):
        return f"{metric.title} (%)"
    return metric.title + " (points)" * metric.in_points


def _mean(cells: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [each[name] for each in cells if each[name] is not None]
    return sum(values) / len(values) if values else None
