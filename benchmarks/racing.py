"""What a race would lose: python benchmarks/racing.py --data-dir TFDS --candidates 200

Random trees that pass the rejection protocol are trained in full (500 steps of LeNet-5, as the papers do), and
evaluated at every rung on the way, on the part of the validation examples that a race looks at. Printed for each rung:
Spearman's correlation with the error at the end, over all candidates and among the best 20 of the end; the same for
the linear student. Then for each race: how often it loses the best of a generation of 25 drawn from them, how much
worse its winner is, and what it costs. Progress goes to --out as it is made: a stopped run goes on from there.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import numpy as np
import search_task
from scipy import stats

from edl_jax.search import racing, students
from edl_jax.search.split import Split, batches
from edl_jax.search.students.train import LARGEST_BUCKET
from edl_jax.training.optimizer import sgd

RUNGS = (10, 25, 50, 100, 150, 250, 500)
BEST = 20
GENERATION, DRAWS = 25, 2000
RACES = {
    "default": racing.RacingConfig(),
    "generous": racing.RacingConfig(rungs=(50, 150, 500), kept=(0.5, 0.3)),
    "two rungs": racing.RacingConfig(rungs=(50, 500), kept=(0.25,)),
    "hasty": racing.RacingConfig(rungs=(25, 100, 500), kept=(0.25, 0.1)),
}


def main() -> None:
    parser = search_task.parser(__doc__)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--student", default="lenet5", choices=students.names())
    parser.add_argument("--screen", default="linear", choices=students.names(), help="the cheap student")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--out", type=Path, help="file of results, one line a part")
    flags = parser.parse_args()
    parts = search_task.load(flags)
    rungs = tuple(rung for rung in RUNGS if rung < flags.steps) + (flags.steps,)
    _, tables = search_task.accepted(students.create(flags.student, parts), parts, flags.candidates, flags.seed)
    errors, full = trained(flags, parts, flags.student, tables, rungs)
    screened, _ = trained(flags, parts, flags.screen, tables, rungs)
    end = errors[-1]
    best = np.argsort(end, kind="stable")[:BEST]
    print(f"\n{np.isfinite(end).sum()} of {len(end)} finite; error: best {end.min():.4f}, median {np.median(end):.4f}")
    print(f"Spearman with the error after {flags.steps} steps: over all, among the best {BEST}")
    for rung, found in zip(rungs, errors, strict=True):
        print(f"  {rung:4d} steps             {spearman(found, end):.3f}   {spearman(found[best], end[best]):.3f}")
    for rung, found in zip(rungs, screened, strict=True):
        print(
            f"  {rung:4d} steps, {flags.screen:10s} {spearman(found, end):.3f}   {spearman(found[best], end[best]):.3f}"
        )
    races(flags, errors, end, rungs)
    print(f"a candidate in full: {full:.2f} s of CPU")


def trained(
    flags: argparse.Namespace, parts: Split, name: str, tables: np.ndarray, rungs: tuple[int, ...]
) -> tuple[np.ndarray, float]:
    """Return error rates `[R, P]` of a student at each rung, and CPU seconds a candidate."""
    student = students.create(name, parts)
    trainer = students.Trainer(student, sgd(student.lr))
    evaluator = students.Evaluator(student, parts.validation_images, parts.validation_labels)
    examples = students.Examples.of(student, parts.train_images, parts.train_labels)
    rows = batches(flags.seed, len(parts.train_labels), rungs[-1], 128)
    config = racing.RacingConfig(rungs=rungs, kept=(1.0,) * (len(rungs) - 1))
    done = _read(flags.out, name)
    seconds = 0.0
    for start in range(0, len(tables), LARGEST_BUCKET):
        chosen = tables[start : start + LARGEST_BUCKET]
        if str(start) not in done:
            wall, cpu = time.perf_counter(), time.process_time()
            found = racing.run(trainer, evaluator, chosen, examples, rows, jax.random.key(flags.seed), config)
            seconds = time.process_time() - cpu
            # A candidate that ended before is as bad at the rungs that it did not see.
            done[str(start)] = np.where(np.isnan(found.errors), np.inf, found.errors).tolist()
            _write(flags.out, name, start, done[str(start)])
            wall = time.perf_counter() - wall
            print(f"{name}: {start + len(chosen)} of {len(tables)}, {wall:.0f} s, CPU {seconds:.0f} s", flush=True)
    every = [done[str(start)] for start in range(0, len(tables), LARGEST_BUCKET)]
    return np.concatenate(every, axis=1), seconds / min(len(tables), LARGEST_BUCKET)


def _read(out: Path | None, name: str) -> dict[str, list[list[float]]]:
    if out is None or not out.exists():
        return {}
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    return {line["start"]: line["errors"] for line in lines if line["student"] == name}


def _write(out: Path | None, name: str, start: int, errors: list[list[float]]) -> None:
    if out is not None:
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"student": name, "start": str(start), "errors": errors}) + "\n")


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return the rank correlation; candidates that are not finite are ties at the worst end."""
    return float(stats.spearmanr(np.minimum(a, 2.0), np.minimum(b, 2.0)).statistic)


def races(flags: argparse.Namespace, errors: np.ndarray, end: np.ndarray, rungs: tuple[int, ...]) -> None:
    """Print what each race loses over generations drawn from the candidates."""
    rng = np.random.default_rng(flags.seed)
    size = min(GENERATION, len(end))
    print(f"races among {size} candidates, {DRAWS} draws: best lost, winner's error above the best's (mean), steps")
    for name, config in RACES.items():
        if not set(config.rungs) <= {*rungs}:
            continue
        lost, excess, steps = [], [], []
        for _ in range(DRAWS):
            running = drawn = rng.choice(len(end), size, replace=False)
            taken, before = 0, 0
            for i, rung in enumerate(config.rungs):
                taken += (rung - before) * len(running)
                before = rung
                if i < len(config.rungs) - 1:
                    order = np.argsort(errors[rungs.index(rung), running], kind="stable")
                    running = running[order[: config.going_on(i, size)]]
            best = end[drawn].min()
            lost.append(end[running].min() > best)
            excess.append(end[running].min() - best)
            steps.append(taken / size)
        print(f"  {name:10s} {np.mean(lost):7.3%}   {np.mean(excess):.5f}   {np.mean(steps):.0f} of {rungs[-1]}")


if __name__ == "__main__":
    main()
