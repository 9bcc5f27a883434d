"""The tables of docs/evidence.md against the runs that they were made from."""

import csv
import dataclasses
import itertools
import re
from pathlib import Path

import pytest

from edl_jax.study.compare.cells import DROP_IN, TUNED
from edl_jax.study.compare.config import CompareConfig
from edl_jax.study.compare.statistics import METRICS, Group, Row, make_table

DOCS = Path(__file__).parents[2] / "docs"
GRIDS = sorted(path.name.removesuffix("_cells.csv") for path in (DOCS / "data").glob("*_cells.csv"))
assert GRIDS, "docs/data holds no runs of compare"
_, *SECTIONS = re.split(r"^## ", (DOCS / "evidence.md").read_text(), flags=re.MULTILINE)


def read(name: str) -> list[dict[str, str]]:
    with (DOCS / "data" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def groups_of(cells: list[dict[str, str]]) -> list[Group]:
    """Return the groups that cells.csv describes, in its order."""
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for mode, cell in itertools.product((DROP_IN, TUNED), cells):
        if mode in cell["role"].split("+"):
            key = (mode, cell["arch"], cell["dataset"], cell["label_noise"], cell["loss"])
            found.setdefault(key, []).append(cell)
    keys = [metric.key for metric in METRICS]
    return [
        Group(
            *(mode, arch, dataset, float(noise), loss),
            results={int(run["seed"]): {key: float(run[key]) for key in keys if run[key]} for run in runs},
            diverged=0,
            missing=0,
            lr=float(runs[0]["lr"]),
            revisions=tuple(sorted({run["revision"] for run in runs})),
        )
        for (mode, arch, dataset, noise, loss), runs in found.items()
    ]


@pytest.mark.parametrize("grid", GRIDS)
def test_comparisons_follow_from_the_runs(grid: str) -> None:
    # A change of the statistics leaves no published p-value behind that a reader could not compute from the runs.
    cells = read(f"{grid}_cells")
    assert {cell["state"] for cell in cells} == {"done"}
    losses = tuple(dict.fromkeys(cell["loss"] for cell in cells))
    table = make_table(CompareConfig(losses=losses), groups_of(cells))
    wanted = read(f"{grid}_comparison")
    assert len(table) == len(wanted)
    by_name = {(row.metric, *map(str, row.place), row.loss): row for row in table}
    for line in wanted:
        place = (line["mode"], line["arch"], line["dataset"], line["label_noise"])
        row = by_name[line["metric"], *place, line["loss"]]
        for field in dataclasses.fields(Row):
            value, text = getattr(row, field.name), line[field.name]
            if isinstance(value, float):
                assert float(text) == pytest.approx(value, rel=1e-9, abs=1e-12), (field.name, line)
            else:
                assert text == ("" if value is None else str(value)), (field.name, line)


def tables(section: str) -> list[list[list[str]]]:
    """Return the Markdown tables of a section as rows of cells, the header first and without the rule below it."""
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", section, flags=re.MULTILINE)
    rows = ([[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()] for block in blocks)
    return [[header, *body] for header, _, *body in rows]


def percent(text: str) -> float:
    return float(f"{100 * float(text):.2f}")


@pytest.mark.parametrize("section", [part for part in SECTIONS if "_comparison.csv" in part], ids=lambda part: part[:9])
def test_tables_show_what_the_comparisons_hold(section: str) -> None:
    # No figure is mistyped, or of an earlier number of seeds.
    grids = re.findall(r"data/(\w+)_comparison\.csv", section)
    rows = [row for grid in grids for row in read(f"{grid}_comparison") if row["metric"] == "accuracy"]
    shown = 0
    for header, *body in tables(section):
        if "minus cross-entropy" not in header:
            continue
        for line in (dict(zip(header, cells, strict=True)) for cells in body):
            loss = line["loss"].replace(", epsilon 2", ":epsilon=2")
            accuracy = next(text for name, text in line.items() if name.startswith("test accuracy"))
            wanted = [float(number) for number in re.findall(r"[+-]?\d+\.\d\d", line["minus cross-entropy"])]
            keys = ("difference", "difference_low", "difference_high")[: len(wanted)]
            assert any(
                row["loss"] == loss
                and percent(row["mean"]) == float(accuracy.split()[0])
                and [percent(row[key]) for key in keys] == wanted
                for row in rows
            ), line
            shown += 1
    assert shown >= 4


def test_accuracies_by_rate_are_those_of_the_tuning_runs() -> None:
    section = next(part for part in SECTIONS if part.startswith("ResNet-8 on CIFAR-10"))
    cells = [cell for cell in read("cifar10_cells") if cell["role"] == "tuning"]
    runs = {(cell["loss"], float(cell["lr"])): (cell["val_accuracy"], cell["test_accuracy"]) for cell in cells}
    header, *body = next(table for table in tables(section) if table[0][1:2] == ["0.0125"])
    assert len(body) == 4
    for loss, *shown in body:
        of_loss = loss.replace(", epsilon 2", ":epsilon=2")
        wanted = [tuple(map(percent, runs[of_loss, float(rate)])) for rate in header[1:]]
        assert [tuple(map(float, text.replace("*", "").split("; "))) for text in shown] == wanted, loss


def test_the_table_of_the_readme_is_that_of_ten_seeds() -> None:
    rows = {(row["metric"], row["mode"], row["loss"]): row for row in read("cifar10_comparison")}
    (header, *body), *_ = (
        table for table in tables((DOCS.parent / "README.md").read_text()) if "accuracy, own rate" in table[0]
    )
    assert header[0] == "loss"
    assert len(body) == 4
    for name, common, own, difference, *nll in body:
        loss = name.replace(", epsilon 2", ":epsilon=2")
        for mode, shown in ((DROP_IN, common), (TUNED, own)):
            row = rows["accuracy", mode, loss]
            assert [float(part) for part in shown.split(" ± ")] == [percent(row["mean"]), percent(row["sd"])], name
        row = rows["accuracy", TUNED, loss]
        wanted = [percent(row[key]) for key in ("difference", "difference_low", "difference_high") if row[key]]
        assert [float(number) for number in re.findall(r"[+-]?\d+\.\d\d", difference)] == wanted, name
        scaled = (rows[metric, TUNED, loss]["mean"] for metric in ("nll", "nll_scaled"))
        assert list(map(float, nll)) == [round(float(mean), 3) for mean in scaled], name
