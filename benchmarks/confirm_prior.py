"""Confirmation of the shipped prior on synthetic tasks: python benchmarks/confirm_prior.py

The evolved file itself trains students on the tasks of benchmarks/synthetic_tasks.py, beside cross-entropy, poly1 with
its epsilon tuned on the same tasks, label smoothing with its alpha tuned likewise, and the optimum that the file
approaches. As in benchmarks/choose_mixture.py, every loss uses cross-entropy's best learning rate of each setting;
hyper-parameters are chosen by validation accuracy on the seeds on which rates were, and compared on seeds that nothing
was chosen on. No real data. `--quick` checks that it runs and shows nothing.
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from choose_mixture import (
    LEAST_PULL,
    MOST_PULL,
    NOISES,
    QUICK,
    REGIMES,
    Setting,
    by_setting,
    difference_cell,
    label,
    measure,
    tune,
)
from synthetic_tasks import NUM_CLASSES, Scores, table_of, train_with

from edl_jax import loss
from edl_jax.stats.intervals import interval

EPSILONS = (0.5, 1.0, 1.4, 2.0, 3.0, 5.0)
ALPHAS = (0.02, 0.05, 0.1, 0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny students, two seeds")
    parser.add_argument("--tune-seeds", type=int, default=24, help="tasks of each setting on which is tuned")
    parser.add_argument("--confirm-seeds", type=int, default=200, help="tasks of each setting for the confirmation")
    parser.add_argument("--seed", type=int, default=0, help="seed of all tasks and students")
    parser.add_argument("--out", type=Path, help="file for the numbers of all tables")
    flags = parser.parse_args()
    if flags.quick:
        flags.tune_seeds = flags.confirm_seeds = 2
    regimes = QUICK if flags.quick else REGIMES
    print(f"jax {jax.__version__}, {jax.devices()[0].platform}, C = {NUM_CLASSES}, seed {flags.seed}")
    started = time.process_time()

    print("\npull of the file over cross-entropy's: " + pulls(loss.get("edl")))
    rates = tune(table_of(lambda log_p: -log_p, -9.0), regimes, flags.seed, flags.tune_seeds)
    print("\nlearning rates, cross-entropy's best: " + ", ".join(f"{label(s)} {rate:g}" for s, rate in rates.items()))

    chosen = {}
    for name, parameter, values in (("poly1", "epsilon", EPSILONS), ("label_smoothing", "alpha", ALPHAS)):
        candidates = {f"{value:g}": loss.get(name, **{parameter: value}) for value in values}
        scores = measure(candidates, rates, regimes, flags.seed, "tune", flags.tune_seeds, train_with)
        found = {
            value: float(np.mean([s.validation_accuracy for s in of_setting.values()]))
            for value, of_setting in scores.items()
        }
        best = max(found, key=lambda value: found[value])
        chosen[f"{name}, {parameter} {best}"] = candidates[best]
        print(f"{name}: validation accuracy by {parameter}: " + ", ".join(f"{v} {x:.4f}" for v, x in found.items()))

    losses = {"cross_entropy": loss.get("cross_entropy"), "edl (the file)": loss.get("edl")}
    losses |= {"edl_optimum": loss.get("edl_optimum"), **chosen}
    confirmation = measure(losses, rates, regimes, flags.seed, "confirm the file", flags.confirm_seeds, train_with)
    rows = {name: summary(confirmation, name, "cross_entropy") for name in losses}
    print(f"\nconfirmation, {flags.confirm_seeds} fresh seeds in each of {len(rates)} settings\n\n{markdown(rows)}")
    print("\nthe file minus:")
    against = {name: summary(confirmation, "edl (the file)", name) for name in losses if name != "edl (the file)"}
    print(markdown(against))
    print(f"\n{by_setting(confirmation, [name for name in losses if name != 'cross_entropy'])}")
    print(f"\n{time.process_time() - started:.0f} s of CPU")
    if flags.out:
        flags.out.parent.mkdir(parents=True, exist_ok=True)
        record = {"rates": {label(s): rate for s, rate in rates.items()}, "confirm": rows, "file minus": against}
        flags.out.write_text(json.dumps(record, indent=2), encoding="utf-8")


def pulls(function: loss.Loss) -> str:
    """Return the gradient of a loss over cross-entropy's at gaps between logits, and whether rule (a) holds."""
    gaps = np.array([-50.0, -20.0, -10.0, -5.0, 0.0, 2.2, 5.0, 8.0, 10.0, 20.0, 30.0])
    logits = np.zeros((len(gaps), NUM_CLASSES), np.float32)
    logits[:, 0] = gaps
    labels = np.zeros(len(gaps), np.int32)

    def on_others(f: loss.Loss) -> np.ndarray:
        # Of a wrong class: that of the true one is lost to rounding where p_t is nearly 1.
        return np.asarray(jax.grad(lambda z: f(z, labels).sum())(logits))[:, 1]

    ratio = on_others(function) / on_others(loss.get("cross_entropy"))
    kept = "kept" if ratio.min() >= LEAST_PULL and ratio.max() <= MOST_PULL else "broken"
    shown = ", ".join(f"{x:.2f} at gap {gap:g}" for gap, x in zip(gaps, ratio, strict=True))
    return f"{shown}; rule (a) is {kept}"


def summary(scores: Mapping[str, Mapping[Setting, Scores]], name: str, reference: str) -> dict[str, list[float]]:
    """Return mean differences from a reference in points of test accuracy with their intervals, and the mean NLL."""

    def difference(noise: float | None) -> list[float]:
        chosen = [s for s in scores[name] if noise is None or s[1] == noise]
        pairs = [100 * (scores[name][s].accuracy - scores[reference][s].accuracy) for s in chosen]
        return list(interval(np.mean(pairs, axis=0)))

    return {
        "all": difference(None),
        **{f"{noise:.0%}": difference(noise) for noise in NOISES},
        "accuracy": [100 * float(np.mean([s.accuracy for s in scores[name].values()]))],
        "nll": [float(np.mean([s.nll for s in scores[name].values()]))],
    }


def markdown(rows: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Return the table of `summary` rows."""
    columns = ["all", *(f"{noise:.0%}" for noise in NOISES)]
    head = ["loss", "accuracy", "all settings", *(f"{noise:.0%} noise" for noise in NOISES), "NLL"]
    lines = [" | ".join(("", *head, "")).strip(), "|" + " --- |" * len(head)]
    for name, row in rows.items():
        cells = [f"{row['accuracy'][0]:.2f}", *(difference_cell(row[column]) for column in columns)]
        lines.append(" | ".join(("", name, *cells, f"{row['nll'][0]:.3f}", "")).strip())
    return "\n".join(lines)


if __name__ == "__main__":
    main()
