"""What a search leaves behind: the best losses as artifacts, their formulas and shapes, counts and timings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax import loss
from edl_jax.core import environment, status
from edl_jax.core.config import to_dict
from edl_jax.core.runs import Run, read_metrics
from edl_jax.plot import search as plot
from edl_jax.search import formulas, report, shape
from edl_jax.search.methods import Winner
from edl_jax.search.tasks import CLASSIFICATION
from edl_jax.search.trials import Trials
from edl_jax.training.progress import format_duration

_COUNTS = ("evaluated", "rejected", "known", "strong", "trained", "diverged", "hopeless", "steps")
_ERRORS = np.linspace(-3.0, 3.0, 241)
_PARTS = ("kernels", "rejection", "local_search", "training", "other")


def conclude(directory: Run, trials: Trials, winners: Sequence[Winner]) -> dict[str, Any]:
    """Store the best losses of a finished search.

    Args:
      directory: the run directory.
      trials: of the search.
      winners: the best candidates, at least one, the best first.

    Returns:
      The content of result.json: `fitness`, `generation` and description of the best candidate, `artifact`, the path of
      its loss, `winners`, a list of the best with the same, `counts` over all candidates, and `seconds` by part.
    """
    status.say("storing the best")
    rows = directory.metrics()
    described = []
    for rank, winner in enumerate(winners, 1):
        facts = describe(winner, _num_classes(trials))
        metadata = {
            "task": trials.task.name,
            "config": to_dict(trials.config),
            "seed": trials.config.seed,
            "metrics": {name: facts[name] for name in ("fitness", "generation")},
            "versions": environment.versions(),
        }
        path = loss_file(directory.path, rank)
        path.parent.mkdir(exist_ok=True)
        loss.save(winner.artifact(metadata), path)
        described.append({**facts, "artifact": str(path)})
    seconds = {part: round(sum(row.get(f"seconds_{part}") or 0.0 for row in rows), 2) for part in _PARTS}
    return {
        "method": trials.config.method,
        "dataset": trials.config.dataset,
        "arch": trials.config.arch,
        **described[0],
        "winners": described,
        "counts": {name: sum(int(row.get(name) or 0) for row in rows) for name in _COUNTS},
        "seconds": {**seconds, "total": round(sum(seconds.values()), 2)},
    }


def loss_file(directory: Path, rank: int) -> Path:
    """Return where a search stores its best loss, of rank 1, and the next best."""
    return directory / ("loss.safetensors" if rank == 1 else f"losses/{rank}.safetensors")


def describe(winner: Winner, num_classes: int | None) -> dict[str, Any]:
    """Return what result.json says of a candidate: fitness, formula and, in classification, shape."""
    formula = _formula(winner)
    found = {
        "fitness": winner.fitness,
        "generation": winner.generation,
        "formula": formula.text,
        "simplified": formula.simplified,
        "complexity": formula.complexity,
    }
    return found if num_classes is None else {**found, **shape.describe(winner.table(), num_classes)._asdict()}


def draw(
    path: Path,
    result: Mapping[str, Any],
    winners: Sequence[Winner],
    trials: Trials,
    figure_format: str,
    more: Sequence[Path] = (),
) -> None:
    """Draw the figures of a run directory and write its report.

    Args:
      path: run directory.
      result: the content of result.json.
      winners: the best candidates, the best first.
      trials: of the search.
      figure_format: png, pdf or svg.
      more: figures of the method, which are there, for the report.
    """
    status.say("drawing")
    config, classes = trials.config, _num_classes(trials)
    size = trials.training.evaluator.size
    shown, curves = [], []
    for winner, described in zip(winners, result["winners"], strict=True):
        formula, look = _formula(winner), None
        if classes is None:
            curves.append((formula.simplified, _ERRORS, _values(described["artifact"])))
        else:
            table = winner.table()
            look = shape.describe(table, classes)
            curves.append(report.curve(formula.simplified, table, classes, look))
        shown.append(report.Winner(winner.fitness, winner.generation, formula, look))
    figures = plot.draw(path / "figures", read_metrics(path), curves, classes, figure_format)
    facts = {
        "method": config.method,
        "data set": config.dataset,
        "student": config.arch,
        "fitness": f"{trials.task.metric} on {size} validation examples after {config.steps} steps",
        "generations": f"{config.generations} of {config.population_size} candidates",
        "race": "off" if not config.race else ", ".join(map(str, config.rungs.rungs)),
        "local search": config.local_search,
        "seed": config.seed,
    }
    seconds = {name.replace("_", " "): value for name, value in result["seconds"].items() if name != "total"}
    title = f"{config.method} on {config.dataset}"
    report.write(path / "report.md", title, facts, shown, result["counts"], seconds, [*figures, *more])


def summary_lines(result: Mapping[str, Any]) -> list[str]:
    """Return what a person is told of the result of `run`."""
    counts, total = result["counts"], result["seconds"]["total"]
    trees = counts["evaluated"] + counts["known"]
    lines = [f"fitness {result['fitness']:.4f}   {result['simplified']}"]
    if "group" in result:
        minimum = "" if result["minimum"] is None else f", least at p_t = {result['minimum']:.3f}"
        pull = f"{result['scale']:.3g} times cross-entropy's pull (R^2 {result['r_squared']:.3f})"
        lines.append(f"{result['group']}{minimum}; {pull}")
    return [
        *lines,
        f"{trees} candidate{'' if trees == 1 else 's'} in {format_duration(total)}: {counts['trained']} trained, "
        f"{counts['rejected']} rejected, {counts['known']} known before",
    ]


def _formula(winner: Winner) -> formulas.Formula:
    """Return a candidate in writing."""
    if winner.tree is not None:
        return formulas.describe(winner.tree, winner.weights)
    count = sum(np.size(leaf) for leaf in jax.tree.leaves(winner.params))
    name = f"a network of {count} parameters"
    return formulas.Formula(name, name, name, "", count)


def _num_classes(trials: Trials) -> int | None:
    """Return C, or None in regression."""
    return trials.student.num_classes if trials.task is CLASSIFICATION else None


def _values(path: str) -> np.ndarray:
    """Return the values `[Y, N]` of a stored loss of regression at the targets and errors of its figure."""
    targets = np.array(plot.TARGETS, np.float32)[:, None]
    function = loss.load_regression(path)
    return np.asarray(function(jnp.asarray(targets + _ERRORS, jnp.float32), jnp.asarray(targets)))
