"""Linearised local search beside the exact one: python benchmarks/local_search.py --data-dir TFDS

For --cases random trees that pass rejection, each with random edge weights and another step of the sequence (weights,
training batch, validation batch): error in norm and cosine of the linearised meta-gradient beside the exact one,
relative difference of the task's loss, by how far the training step moves the logits. Then both local searches in full
for a few trees: how far their weights are apart beside how far they moved, and the error of students trained with
either.
"""

import argparse
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import search_task

from edl_jax.search import kernel_store, racing, sequence, students
from edl_jax.search.local_search import Exact, Linearised, LocalSearchConfig
from edl_jax.search.program_tables import tables_of_expressions
from edl_jax.search.slopes import Tape, program_slopes
from edl_jax.search.split import Split, batches
from edl_jax.training.optimizer import sgd

MOVES = (0.02, 0.05, 0.1, 0.3)
SLOPES = functools.partial(program_slopes, search_task.OPERATORS)


def main() -> None:
    parser = search_task.parser(__doc__)
    parser.add_argument("--student", default="lenet5", choices=students.names())
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--spread", type=float, default=0.2, help="standard deviation of the edge weights around 1")
    parser.add_argument("--full", type=int, default=8, help="trees that are searched for in full, both ways")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--train-steps", type=int, default=500)
    flags = parser.parse_args()
    parts = search_task.load(flags)
    student = students.create(flags.student, parts)
    examples = (
        students.Examples.of(student, parts.train_images, parts.train_labels),
        students.Examples.of(student, parts.validation_images, parts.validation_labels),
    )
    trees, _ = search_task.accepted(student, parts, max(flags.cases, flags.full), flags.seed)
    gradients(flags, student, examples, jax.tree.map(jnp.asarray, search_task.tape_of(trees[: flags.cases])))
    if flags.full:
        in_full(flags, parts, student, examples, trees[: flags.full])


def gradients(
    flags: argparse.Namespace,
    student: students.Student,
    examples: tuple[students.Examples, students.Examples],
    tape: Tape,
) -> None:
    """Print how the meta-gradients differ, a case a step."""
    cases = len(tape.weights)
    config = LocalSearchConfig(steps=cases)
    drawn = sequence.draw(*examples, flags.seed, steps=cases)
    exact = Exact(SLOPES, config, student, drawn)
    rng = np.random.default_rng(flags.seed)
    weights = 1.0 + flags.spread * jnp.asarray(rng.normal(size=tape.weights.shape), jnp.float32)
    # One kernel at a time: the sequence of all would only take memory.
    linearised = Linearised(SLOPES, config, kernel_store.Linearisations([], None))

    @jax.jit
    def by_kernel(weights: jax.Array, tape: Tape, at: Any) -> Any:
        def total(weights: jax.Array) -> tuple[jax.Array, jax.Array]:
            losses, moves = linearised.task_losses(weights, tape, at)
            return losses.sum(), moves

        return jax.value_and_grad(total, has_aux=True)(weights)

    by_training = jax.jit(jax.value_and_grad(exact.task_loss))
    rows = []
    for i in range(cases):
        one = sequence.Sequence(
            jax.random.fold_in(drawn.key, i), *examples, drawn.train_rows[i : i + 1], drawn.validation_rows[i : i + 1]
        )
        at = next(iter(kernel_store.compute(student, one, decay=config.decay)))
        part = jax.tree.map(lambda x, i=i: x[i : i + 1], (weights, tape))
        (loss, moves), gradient = by_kernel(*part, at)
        batches_of_step = drawn.at(i)[1:]
        expected_loss, expected = by_training(
            weights[i], jax.tree.map(lambda x, i=i: x[i], tape), (one.key_of(0), *batches_of_step)
        )
        a, b = np.asarray(gradient[0], np.float64), np.asarray(expected, np.float64)
        norm = float(np.linalg.norm(b))
        if norm > 0:
            cosine = float(a @ b) / max(float(np.linalg.norm(a)) * norm, 1e-300)
            error = float(np.linalg.norm(a - b)) / norm
            rows.append((error, cosine, abs(float(loss) / float(expected_loss) - 1.0), float(moves[0])))
    found = np.array(rows)
    found = found[np.isfinite(found).all(axis=1)]
    print(f"{cases} cases, {len(rows)} with a gradient, {len(found)} finite, by how far a step moves logits (rms)")
    print("      moves   cases   error in norm: median, 90 %, worst    1 - cosine: median, worst    loss: worst")
    for low, high in itertools.pairwise((0.0, *MOVES, np.inf)):
        error, cosine, loss, _ = found[(found[:, 3] >= low) & (found[:, 3] < high)].T
        if len(error):
            print(
                f"{low:5.2f}-{high:5.2f}   {len(error):5d}   {np.median(error):.1e}  {np.quantile(error, 0.9):.1e}  "
                f"{error.max():.1e}   {np.median(1 - cosine):.1e}  {(1 - cosine).max():.1e}   {loss.max():.1e}",
                flush=True,
            )


def in_full(
    flags: argparse.Namespace,
    parts: Split,
    student: students.Student,
    examples: tuple[students.Examples, students.Examples],
    trees: list[Any],
) -> None:
    """Print what both local searches find for some trees."""
    config = LocalSearchConfig(steps=flags.steps)
    drawn = sequence.draw(*examples, flags.seed, steps=flags.steps)
    tape = search_task.tape_of(trees)
    kernels = kernel_store.compute(student, drawn, decay=config.decay)
    found = {
        "none": tape.weights,
        "linearised": Linearised(SLOPES, config, kernels)(tape.weights, tape).params,
        "exact": Exact(SLOPES, config, student, drawn)(tape.weights, tape).params,
    }
    moved = np.linalg.norm(found["exact"] - found["none"], axis=1)
    apart = np.linalg.norm(found["exact"] - found["linearised"], axis=1)
    trainer = students.Trainer(student, sgd(student.lr))
    evaluator = students.Evaluator(student, parts.validation_images, parts.validation_labels)
    rows = batches(flags.seed, len(parts.train_labels), flags.train_steps, 128)
    errors = []
    for weights in found.values():
        tables = tables_of_expressions(trees, [w[: t.size].tolist() for w, t in zip(weights, trees, strict=True)])
        key = jax.random.key(flags.seed)
        full = racing.full(flags.train_steps)
        errors.append(racing.run(trainer, evaluator, tables, examples[0], rows, key, full).error)
    names = ", ".join(found)
    print(f"\nin full, {flags.steps} steps: weights apart / moved; error after {flags.train_steps} steps, {names}")
    for i, tree in enumerate(trees):
        line = "  ".join(f"{error[i]:.4f}" for error in errors)
        print(f"  {apart[i]:.4f} / {moved[i]:.4f}   {line}   {tree}"[:120])


if __name__ == "__main__":
    main()
