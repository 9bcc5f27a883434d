"""Losses that searches found, trained in full beside cross-entropy or squared error.

    python benchmarks/search_finals.py table RUN...           regression: trains, on the part that no search has read
    python benchmarks/search_finals.py results REFERENCE RUN...     classification: reads runs of downstream --seeds

`table` trains the search's student with squared error and with the best loss of each search directory, at squared
error's learning rate, with seeds that no search used; the split is that of the search. Printed are means and standard
deviations over seeds, and the paired difference from the reference with its 95 % interval.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax import loss
from edl_jax.loss import Artifact, FormulaArtifact
from edl_jax.loss.expression import P, Y, apply
from edl_jax.search import families, students, tabular
from edl_jax.search.split import batches
from edl_jax.search.tasks import REGRESSION
from edl_jax.stats import comparison
from edl_jax.training.optimizer import sgd


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    table = parts.add_parser("table")
    table.add_argument("runs", nargs="+", type=Path)
    table.add_argument("--dataset", help="another one than the search's")
    table.add_argument("--arch", help="another one than the search's")
    table.add_argument("--steps", type=int, default=2000)
    table.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 14])
    results = parts.add_parser("results")
    results.add_argument("reference", type=Path)
    results.add_argument("runs", nargs="+", type=Path)
    results.add_argument("--measure", default="test_accuracy")
    flags = parser.parse_args()
    (train_tables if flags.part == "table" else read_results)(flags)


def train_tables(flags: argparse.Namespace) -> None:
    """Train with each loss and print its error on the held-out part."""
    found = {run.name: json.loads((run / "config.json").read_text(encoding="utf-8"))["config"] for run in flags.runs}
    config = next(iter(found.values()))
    dataset = tabular.load(flags.dataset or config["dataset"])
    split, held_out = tabular.split(dataset, config["seed"]), tabular.held_out(dataset, config["seed"])
    student = students.create(flags.arch or config["arch"], split)
    examples = students.Examples.of(student, *split.train)
    evaluator = students.Evaluator(student, held_out.inputs, held_out.targets)
    size = min(config["batch_size"], len(split.train_targets))
    errors: dict[str, list[float]] = {}
    losses = {"squared error": FormulaArtifact.from_formula("(y - p)^2")}
    losses |= {run.name: loss.load_artifact(run / "loss.safetensors") for run in flags.runs}
    for name, artifact in losses.items():
        is_network = isinstance(artifact, Artifact)
        family = (families.NETWORKS if is_network else families.TREES)[REGRESSION]
        trainer = students.Trainer(student, sgd(student.lr), gradient=family.gradient)
        if isinstance(artifact, Artifact):
            one = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 8), artifact.params)
        elif name == "squared error":
            one = families.encode_trees(REGRESSION, [apply("square", apply("sub", Y, P))] * 8)
        else:
            assert isinstance(artifact, FormulaArtifact)
            record = artifact.record
            one = families.encode_trees(REGRESSION, [record.expression] * 8, [record.weights] * 8)
        active = np.arange(8) == 0
        for seed in flags.seeds:
            rows = jnp.asarray(batches(seed, len(split.train_targets), flags.steps, size))
            population = trainer.init(jax.random.key(seed), 8)
            population = trainer.advance(
                population,
                jax.tree.map(jnp.asarray, one),
                examples,
                rows,
                0,
                flags.steps,
                active=jnp.asarray(active),
            )
            errors.setdefault(name, []).append(float(evaluator(population, active=active).error[0]))
        show(name, errors[name], errors["squared error"], digits=4)


def read_results(flags: argparse.Namespace) -> None:
    """Print a measure of runs of several seeds beside the reference's."""
    values = {}
    for run in (flags.reference, *flags.runs):
        runs = json.loads((run / "result.json").read_text(encoding="utf-8"))["runs"]
        values[run.name] = {one["seed"]: one[flags.measure] for one in runs}
    reference = values[flags.reference.name]
    for name, found in values.items():
        seeds = sorted(found.keys() & reference.keys())
        show(name, [found[seed] for seed in seeds], [reference[seed] for seed in seeds], digits=4)


def show(name: str, values: list[float], reference: list[float], digits: int) -> None:
    text = f"{name:28s} {np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"
    if values is not reference and np.isfinite(values).all():
        found = comparison.compare(values, reference)
        p = "-" if found.p is None else f"{found.p:.2g}"
        interval = ", ".join(f"{x:+.{digits}f}" for x in (found.low, found.high))
        text += f"   {found.difference:+.{digits}f} [{interval}], {found.test}, p {p}"
    print(text, flush=True)


if __name__ == "__main__":
    main()
