"""Choice of the default mixture on synthetic tasks: python benchmarks/choose_mixture.py

The loss that each candidate (mixture, severity, m, beta) would evolve is known (docs/theory.md), so candidates are
scored by their optimum, calibrated as evolved losses are: students are trained with it on the tasks of
benchmarks/synthetic_tasks.py, and its test accuracy is compared with cross-entropy's, seed by seed. No real data.

1. tune: for each setting (kind of task, label noise, regime), cross-entropy's best learning rate on validation data.
   Every loss then uses it.
2. select: all candidates on one set of seeds. Chosen is the highest mean difference from cross-entropy over all
   settings among the candidates that (a) pull between 0.3 and 5 times as hard as cross-entropy at every p_t, gaps of
   20 and 50 between logits included, and (b) do not lose to it on clean labels (mean difference of 0 or more).
3. confirm: the chosen one, the best of the same on clean labels and the steered mixture, on seeds not used before, at
   half, one and two times the rate.

Severities brier and margin are no functions of p_t, their optima no tables, and are left out.
About nine minutes of CPU. `--quick` checks that it runs and shows nothing.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from mixture_candidates import CANDIDATES, REFERENCES, optimal_table
from synthetic_tasks import KINDS, NUM_CLASSES, LossTable, Regime, Scores, make_tasks, table_of, train

from edl_jax.stats.intervals import interval

NOISES = (0.0, 0.1, 0.3)
REGIMES = {"long": Regime(examples=1000, epochs=40), "short": Regime(examples=4000, epochs=5)}
QUICK = {"long": Regime(examples=200, epochs=2, held_out=200), "short": Regime(examples=400, epochs=1, held_out=200)}
RATES = (0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
# Bounds of (a), and the range of ln p_t in which they are checked.
LEAST_PULL, MOST_PULL, _LOG_P = 0.3, 5.0, np.append(np.linspace(-12.0, 0.0, 481), (-20.0, -50.0))
# Stage -> what is folded into the key of its seeds; the last one is benchmarks/confirm_prior.py's.
STAGES = {"tune": 0, "select": 1, "confirm": 2, "confirm the file": 7}

Setting = tuple[str, float, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny students, two seeds, four candidates")
    parser.add_argument("--tune-seeds", type=int, default=24, help="tasks of each setting on which rates are chosen")
    parser.add_argument("--select-seeds", type=int, default=48, help="tasks of each setting for the selection")
    parser.add_argument("--confirm-seeds", type=int, default=200, help="tasks of each setting for the confirmation")
    parser.add_argument("--seed", type=int, default=0, help="seed of all tasks and students")
    parser.add_argument("--out", type=Path, help="folder for choose_mixture.json, the numbers of all tables")
    flags = parser.parse_args()
    if flags.quick:
        flags.tune_seeds = flags.select_seeds = flags.confirm_seeds = 2
    regimes = QUICK if flags.quick else REGIMES
    names = list(CANDIDATES)[:: len(CANDIDATES) // 3] if flags.quick else list(CANDIDATES)
    print(f"jax {jax.__version__}, {jax.devices()[0].platform}, C = {NUM_CLASSES}, seed {flags.seed}")

    started = time.process_time()
    tables = {"cross_entropy": table_of(lambda log_p: -log_p, -9.0)}
    tables |= {name: optimal_table(CANDIDATES[name]) for name in {**dict.fromkeys(names), "steered mixture": None}}
    references = {name: table_of(function, -12.0) for name, function in REFERENCES.items()}

    rates = tune(tables["cross_entropy"], regimes, flags.seed, flags.tune_seeds)
    print("\nlearning rates, cross-entropy's best: " + ", ".join(f"{label(s)} {rate:g}" for s, rate in rates.items()))

    selection = measure(tables | references, rates, regimes, flags.seed, "select", flags.select_seeds)
    rows = {name: summary(selection, name, (tables | references)[name]) for name in selection}
    print(f"\nselection, {flags.select_seeds} seeds in each of {len(rates)} settings\n\n{markdown(rows)}")
    candidates = {name: row for name, row in rows.items() if name in CANDIDATES}
    chosen, cleanest = choose(candidates, "all"), choose(candidates, "0%")
    print(f"\nchosen: {chosen}; best on clean labels: {cleanest}")

    finalists = {name: tables[name] for name in dict.fromkeys(("cross_entropy", "steered mixture", chosen, cleanest))}
    record = {"rates": {label(s): rate for s, rate in rates.items()}, "select": rows, "chosen": chosen}
    for factor in (0.5, 1.0, 2.0):
        scaled = {setting: factor * rate for setting, rate in rates.items()}
        confirmation = measure(finalists, scaled, regimes, flags.seed, "confirm", flags.confirm_seeds)
        rows = {name: summary(confirmation, name, table) for name, table in finalists.items()}
        print(f"\nconfirmation, {flags.confirm_seeds} fresh seeds, {factor:g} times the rate\n\n{markdown(rows)}")
        if factor == 1.0:
            print(f"\n{by_setting(confirmation, [name for name in finalists if name != 'cross_entropy'])}", flush=True)
        record[f"confirm, rate x {factor:g}"] = rows
    print(f"\n{time.process_time() - started:.0f} s of CPU")
    if flags.out:
        flags.out.mkdir(parents=True, exist_ok=True)
        (flags.out / "choose_mixture.json").write_text(json.dumps(record, indent=2))


def settings(regimes: Mapping[str, Regime]) -> list[Setting]:
    return list(itertools.product(KINDS, NOISES, regimes))


def label(setting: Setting) -> str:
    kind, noise, regime = setting
    return f"{kind} {noise:.0%} {regime}"


def tune(table: LossTable, regimes: Mapping[str, Regime], seed: int, count: int) -> dict[Setting, float]:
    """Return the learning rate of each setting with the highest mean validation accuracy."""
    scores = [
        measure({"tuned": table}, dict.fromkeys(settings(regimes), rate), regimes, seed, "tune", count)["tuned"]
        for rate in RATES
    ]
    return {
        setting: RATES[int(np.argmax([np.mean(score[setting].validation_accuracy) for score in scores]))]
        for setting in settings(regimes)
    }


def measure(
    losses: Mapping[str, Any],
    rates: Mapping[Setting, float],
    regimes: Mapping[str, Regime],
    seed: int,
    stage: str,
    count: int,
    train: Callable[..., Scores] = train,
) -> dict[str, dict[Setting, Scores]]:
    """Return the scores of `count` students for each loss and setting; seeds are the stage's own.

    `train` takes what `losses` holds: a `LossTable`, or with `train_with` a loss.
    """
    key = jax.random.fold_in(jax.random.key(seed), STAGES[stage])
    task_keys, student_key = jax.random.split(key, count), jax.random.fold_in(key, count)
    scores: dict[str, dict[Setting, Scores]] = {name: {} for name in losses}
    for setting in settings(regimes):
        kind, noise, regime = setting
        tasks = make_tasks(task_keys, kind, np.float32(noise), regimes[regime])
        for name, function in losses.items():
            result = train(function, np.float32(rates[setting]), tasks, student_key, regimes[regime])
            scores[name][setting] = jax.tree.map(lambda x: np.asarray(x, np.float64), result)
    return scores


def summary(scores: Mapping[str, Mapping[Setting, Scores]], name: str, table: LossTable) -> dict[str, list[float]]:
    """Return what the tables show of a loss; differences from cross-entropy in points of test accuracy."""
    mine, reference = scores[name], scores["cross_entropy"]

    def difference(noise: float | None) -> list[float]:
        chosen = [s for s in mine if noise is None or s[1] == noise]
        return list(interval(np.mean([100 * (mine[s].accuracy - reference[s].accuracy) for s in chosen], axis=0)))

    pull = table.pull(_LOG_P)
    gap = np.mean([s.train_accuracy - s.accuracy for s in mine.values()])
    return {
        "all": difference(None),
        **{f"{noise:.0%}": difference(noise) for noise in NOISES},
        "nll": [float(np.mean([s.nll for s in mine.values()]))],
        "gap": [100 * float(gap)],
        "pull": [float(pull[-1]), float(np.max(pull)), float(np.min(pull))],
    }


def choose(rows: Mapping[str, Mapping[str, list[float]]], column: str) -> str:
    """Return the candidate with the highest mean in a column among those that fulfil (a) and (b) of this file."""

    def admissible(row: Mapping[str, list[float]]) -> bool:
        _, most, least = row["pull"]
        return least >= LEAST_PULL and most <= MOST_PULL and row["0%"][0] >= 0.0

    good = {name: row for name, row in rows.items() if admissible(row)} or rows
    return max(good, key=lambda name: good[name][column][0])


def markdown(rows: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Return the table of `summary` rows, best first."""
    noises = [f"{noise:.0%}" for noise in NOISES]
    head = ["loss", "all settings", *(f"{noise} noise" for noise in noises), "NLL", "train - test", "pull: tail, most"]
    lines = [" | ".join(("", *head, "")).strip(), "|" + " --- |" * len(head)]
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["all"][0]):
        cells = [difference_cell(row[column]) for column in ("all", *noises)]
        cells += [f"{row['nll'][0]:.3f}", f"{row['gap'][0]:.1f}", "{:.2f}, {:.2f}".format(*row["pull"][:2])]
        lines.append(" | ".join(("", name, *cells, "")).strip())
    return "\n".join(lines)


def by_setting(scores: Mapping[str, Mapping[Setting, Scores]], names: list[str]) -> str:
    """Return a table with a line a setting: cross-entropy's accuracy and the others' differences from it."""
    lines = [" | ".join(("", "setting", "cross_entropy", *names, "")).strip(), "|" + " --- |" * (2 + len(names))]
    for setting, reference in scores["cross_entropy"].items():
        cells = [
            difference_cell(list(interval(100 * np.asarray(scores[name][setting].accuracy - reference.accuracy))))
            for name in names
        ]
        lines.append(" | ".join(("", label(setting), f"{100 * np.mean(reference.accuracy):.2f}", *cells, "")).strip())
    return "\n".join(lines)


def difference_cell(bounds: list[float]) -> str:
    mean, low, high = bounds
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


if __name__ == "__main__":
    main()
