"""The sections of a report, a directory each, by the command that made it."""

from collections.abc import Callable, Mapping, Sequence

from edl_jax.core import status
from edl_jax.core.errors import command
from edl_jax.study.loss_spec import parse_loss
from edl_jax.study.report import documents, environment, grid, grid_figures, shapes, training
from edl_jax.study.report.grid import Grid
from edl_jax.study.report.page import Block, Section, Text
from edl_jax.study.report.sources import Source

COMPARE = "compare"
# Commands whose directories are told in a way of their own; those of others by what they say of themselves.
_OF_COMMAND: Mapping[str, Callable[[Source], list[Section]]] = {
    "downstream": training.one,
    "downstream-seeds": training.several,
}
_TITLES = {
    "correlate": "pretraining numbers against the accuracy of networks",
    "transfer": "densities, distances and tests of synthetic against real predictions",
    "flatness": "eigenvalues, traces and slices",
    "downstream": "one run",
    "downstream-seeds": "several seeds",
}


def of_grid(found: Grid) -> Section:
    """Return the section of a grid of `compare`."""
    lacking = grid.missing(found)
    config = found.config
    blocks: list[Block] = [Text(lacking, "warning")] if lacking else []
    blocks += [Text(line) for line in _method(found)]
    sections = []
    for place in found.places:
        status.say(f"drawing {found.source.name}: {grid.title_of(place, found)}")
        tables = [grid.overview(found, place), *grid.tests(found, place), grid.by_seed(found, place)]
        sections.append(Section(grid.title_of(place, found), [*tables, *grid_figures.of_place(found, place)]))
    status.say(f"drawing {found.source.name}: differences")
    of_accuracy, others = grid_figures.statistics(found)
    if of_accuracy or others:
        inner = [Section("Other metrics", others, folded=True)] if others else []
        sections.append(Section("All settings", of_accuracy, inner))
    losses = shapes.blocks([parse_loss(text) for text in config.losses], grid_figures.num_classes(found))
    sections.append(Section("The losses", losses))
    if tuned := grid.tuning(found):
        text = (
            "Mean validation accuracy in % after the last epoch; the rate that was taken is bold. At an end of the "
            "rates that were tried, a better one may lie beyond."
        )
        sections.append(Section("Tuning", [Text(text), *tuned]))
    if (failed := grid.failures(found)).rows:
        sections.append(Section("Failures", [failed]))
    if (revisions := grid.revisions(found)) is not None:
        sections.append(Section("Revisions", [revisions]))
    return _section(found.source, blocks, sections)


def of_source(source: Source) -> Section:
    """Return the section of a directory of another command than `compare`."""
    status.say(f"reading {source.name}")
    blocks: list[Block] = [] if source.result is not None else [Text(unfinished(source), "warning")]
    make = _OF_COMMAND.get(source.command)
    sections = make(source) if make is not None else []
    if make is None:
        told = documents.report_of(source.path)
        if told is not None:
            sections.append(told)
        elif source.result is not None:
            blocks.append(documents.facts_of(source.result))
        figures = documents.figures_of(source.path, told)
        if figures:
            sections.append(Section("Figures", figures))
    return _section(source, blocks, sections)


def unfinished(source: Source) -> str:
    """Return what to know of a directory that has no result."""
    again = command(f"{source.command.removesuffix('-seeds')} --resume --out {source.path}")
    return f"{source.name} has not finished: it has no result.json. This goes on: {again}"


def _section(source: Source, blocks: Sequence[Block], sections: Sequence[Section]) -> Section:
    """Return the section of a directory, with what every one has."""
    last = [environment.section(source)]
    if raw := documents.tables_of(source.path):
        text = "The files of the directory to the letter: shares are between 0 and 1, and what is not known is empty."
        last.append(Section("All numbers", [Text(text), *raw]))
    what = _TITLES.get(source.command)
    first = [Text(what.capitalize() + ".")] if what else []
    title = source.name if source.name == source.command else f"{source.command}: {source.name}"
    return Section(title, [*first, *blocks], [*sections, *last])


def _method(found: Grid) -> list[str]:
    config, training_of = found.config, found.config.training
    fitted = sorted({each["temperature_from"] for each in found.result["cells"] if each["temperature_from"]})
    done = sum(each["state"] == "done" for each in found.result["cells"])
    return [
        f"{done} runs of {training_of.epochs} epochs, batch {training_of.batch_size}, {training_of.optimizer}, lr "
        f"{training_of.numbers.lr:g}; baseline: {parse_loss(config.baseline_loss).title}. Numbers are those after the "
        "last epoch; none is chosen on the test set."
        + (f" Temperatures are fitted on: {', '.join(fitted)}." if fitted else ""),
        "Differences are loss minus baseline over common seeds, with a paired t test that was named beforehand; p is "
        "corrected by Holm's method over all comparisons of a metric. Level: two one-sided tests, corrected likewise, "
        f"put the difference within ±{config.margin:g} points (accuracy, ECE) or ±{config.margin_nll:g} (NLL).",
    ]
