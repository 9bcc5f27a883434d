"""Evolution finds losses that it has never seen: five targets, their mixtures, and what came out.

    python benchmarks/rediscovery.py [--runs 5] [--generations 400] [--out DIR]

For each target loss `design-mixture`'s mixture is computed, a population is evolved on it without data and without the
target, and the best loss of each run is compared with the target and with the optimum: R^2 over the mixture, F / F*.
Prints a table and draws rediscovery.png.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax import loss
from edl_jax.loss import NetworkConfig
from edl_jax.loss.networks.kinds import hard_label_loss
from edl_jax.plot.style import BLUE, GREY, ORANGE, dress, new_figure, write
from edl_jax.pretrain import PretrainConfig, solve_optimum
from edl_jax.pretrain.generations import compile_chunk, make_evolution
from edl_jax.strategies import StrategyConfig
from edl_jax.synthetic import design, draw_predictions, severity
from edl_jax.synthetic.ranking import grouped_pairs
from edl_jax.synthetic.shape import r_squared

TARGETS: dict[str, tuple[str, dict[str, float]]] = {
    "cross-entropy": ("cross_entropy", {}),
    "focal, γ = 2": ("focal", {"gamma": 2.0}),
    "GCE, q = 0.7": ("gce", {"q": 0.7}),
    "poly-1, ε = 2": ("poly1", {"epsilon": 2.0}),
    "MAE": ("mae", {}),
}
_SAMPLE = 20_000


def evolve(name: str, parameters: dict[str, float], runs: int, generations: int) -> dict[str, Any]:
    """Return what evolution made of one target's mixture."""
    target = loss.get(name, **parameters)
    # A network that also sees the wrong classes, and could do otherwise.
    config = PretrainConfig(
        mixture=design.mixture_for(target, name=name),
        generations=generations,
        runs=runs,
        network=NetworkConfig(),
        es=StrategyConfig(std=0.2, std_limit=0.01),
    )
    optimum = solve_optimum(config)
    evolution = make_evolution(config, chunk=generations)
    compiled = compile_chunk(evolution, runs, config.es.population_size)
    search, inputs = evolution.init(jax.vmap(jax.random.key)(jnp.arange(runs)))
    start = time.perf_counter()
    search, _ = jax.block_until_ready(compiled(search, inputs, jnp.int32(generations)))
    seconds = (time.perf_counter() - start) / runs
    labels, log_p = draw_predictions(jax.random.key(12345), config.mixture, config.num_classes, _SAMPLE)
    severities = np.asarray(severity.get(config.severity)(log_p, labels), np.float64)
    wanted, best = np.asarray(target(log_p, labels)), optimum.loss_of_severity(severities)
    predictions, classes = jnp.asarray(log_p), jnp.asarray(labels)
    losses = (hard_label_loss(config.network, evolution.unravel(x), predictions, classes) for x in search.best)
    found = [np.asarray(values) for values in losses]
    ratios, accuracies = [], []
    for i, solution in enumerate(search.best):
        test, fresh = evolution.assess(jax.random.key(10_000 + i), solution)
        ratios.append(float(test["fitness"]) / optimum.fitness_on(*grouped_pairs(fresh, config.reuse)))
        accuracies.append(float(test["ranking_accuracy"]))
    p_t = np.exp(-np.asarray(wanted)) if name == "cross_entropy" else 1.0 - severities
    return {
        "p_t": p_t,
        "wanted": wanted,
        "found": found[0],
        "target": np.array([r_squared(values, wanted) for values in found]),
        "optimum": np.array([r_squared(values, best) for values in found]),
        "ratio": np.array(ratios),
        "accuracy": np.array(accuracies),
        "seconds": seconds,
    }


def draw(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Draw each mixture's law of p_t above the target and the evolved loss, both standardised."""
    figure = new_figure(3.0 * len(results), 5.4)
    axes = figure.subplots(2, len(results), squeeze=False)
    for (title, result), top, bottom in zip(results.items(), axes[0], axes[1], strict=True):
        dress(top)
        dress(bottom)
        order = np.argsort(result["p_t"])
        p_t, wanted, found = (result[name][order] for name in ("p_t", "wanted", "found"))
        top.hist(p_t, bins=40, range=(0.0, 1.0), density=True, color=GREY)
        top.set(title=title, xlabel="$p_t$")
        bottom.plot(p_t, (wanted - wanted.mean()) / wanted.std(), color=ORANGE, lw=3.5, alpha=0.5, label="target")
        bottom.plot(p_t[::10], ((found - found.mean()) / found.std())[::10], color=BLUE, ls="--", label="evolved")
        bottom.set(xlabel="$p_t$", title=f"$R^2$ = {result['target'].mean():.4f}")
        bottom.legend(frameon=False)
    axes[0][0].set_ylabel("density of the mixture")
    axes[1][0].set_ylabel("loss, standardised")
    write(path, figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--generations", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("runs/rediscovery"))
    options = parser.parse_args()
    results = {}
    print(f"{options.runs} runs of {options.generations} generations; mean ± standard deviation over runs\n")
    print(
        "| target | R² with the target | R² with the optimum | F/F*, fresh pairs | ranking accuracy | seconds a run |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for title, (name, parameters) in TARGETS.items():
        results[title] = result = evolve(name, parameters, options.runs, options.generations)
        numbers = [
            f"{result[key].mean():.4f} ± {result[key].std(ddof=min(1, options.runs - 1)):.4f}"
            for key in ("target", "optimum", "ratio", "accuracy")
        ]
        print(f"| {title} | {' | '.join(numbers)} | {result['seconds']:.2f} |", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    draw(options.out / "rediscovery.png", results)
    print(f"\nfigure: {options.out / 'rediscovery.png'}")


if __name__ == "__main__":
    main()
