"""Speed of stage 1: python benchmarks/pretrain_throughput.py

throughput  generations/s of our two paths, of evosax's strategies on our fitness, and of PyTorch (torch_pretrain.py).
marks       seconds to 99 % ranking accuracy and to the optimum, compilation apart and included (time_to_mark.py).
scaling     ms a generation over population, pairs, classes and width of the network.

What is compared runs in turns in one process, so that other load hits all; ratios are taken turn by turn. Each is
warmed up first, so that compilation is left out; it is printed apart. A whole generation of ours also re-scores three
candidates on 8,192 held-out pairs and reports on the best; `search alone` leaves that out, and PyTorch's generations
have none of it. PyTorch rows need the extra `bench` (torch, CPU build) and are left out without it. Tables go to
stdout; --out gets throughput.json and throughput.png. `--quick` shows that everything runs: its numbers mean nothing.
"""

import argparse
import dataclasses
import itertools
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import throughput_figure
import time_to_mark
from jax.flatten_util import ravel_pytree

from edl_jax.core import environment
from edl_jax.loss import NetworkConfig
from edl_jax.loss.networks.kinds import init as init_network
from edl_jax.pretrain import PretrainConfig
from edl_jax.pretrain.objective import draw, fitness
from edl_jax.strategies import StrategyConfig, create

try:
    import torch
    import torch_pretrain
except ImportError:
    torch = None  # type: ignore[assignment]

PARTS = ("throughput", "marks", "scaling")
PATHS = ("tabulated", "plain")
EVOSAX = ("open_es", "sep_cma_es", "snes", "cma_es")
AXES: dict[str, tuple[int, ...]] = {
    "population": (32, 64, 128, 256, 512, 1024, 2048),
    "pairs": (256, 512, 1024, 2048, 4096, 8192, 16384),
    "classes": (2, 5, 10, 30, 100, 300, 1000),
    "width": (4, 8, 16, 32, 64),
}
# Beyond this many times the default's work the paths without tables take too long and too much memory.
_MOST_WORK = 16.0
_CHUNK = 200

# Does n generations and waits for them.
Run = Callable[[int], Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each (scaling: a third)")
    parser.add_argument("--seconds", type=float, default=0.5, help="least length of a measurement")
    parser.add_argument("--seeds", type=int, default=5, help="runs to the marks of each mixture")
    parser.add_argument("--limit", type=int, default=1500, help="generations after which a mark counts as missed")
    parser.add_argument("--out", type=Path, default=Path("runs/pretrain_throughput"), help="folder of JSON and figure")
    parser.add_argument("--quick", action="store_true", help="everything once, as small as possible")
    flags = parser.parse_args(arguments)
    # The network and the mutations that docs/results.md was measured with.
    mutations = StrategyConfig(std=0.2, std_limit=0.01)
    base, compilations = PretrainConfig(network=NetworkConfig(), es=mutations, generations=500), 3
    axes, paths, evosax, mixtures = AXES, list(PATHS), list(EVOSAX), time_to_mark.MIXTURES
    if flags.quick:
        # Few and equal programs, which the compilation cache may serve.
        flags.rounds, flags.seconds, flags.seeds, flags.limit, compilations = 2, 0.0, 1, _CHUNK, 1
        base = PretrainConfig(num_pairs=64, held_out_pairs=128, network=NetworkConfig(hidden=(8,)))
        base = dataclasses.replace(base, es=dataclasses.replace(base.es, population_size=16))
        axes, paths, evosax, mixtures = {"population": (16,)}, paths[:1], evosax[:1], {"default": {}}
    else:
        # Compilation is measured, not read back.
        jax.config.update("jax_enable_compilation_cache", False)
    if torch is not None:
        torch.set_num_threads(os.cpu_count() or 1)
        torch.manual_seed(0)

    found: dict[str, Any] = {"environment": machine()}
    print(describe(found["environment"]))
    flags.out.mkdir(parents=True, exist_ok=True)
    if "throughput" in flags.parts:
        found["throughput"] = throughput(base, paths, evosax, flags.rounds, flags.seconds)
        print(throughput_table(found["throughput"]), flush=True)
    if "marks" in flags.parts:
        found["marks"] = {
            name: time_to_mark.measure(dataclasses.replace(base, **changes), flags.seeds, flags.limit, compilations)
            for name, changes in mixtures.items()
        }
        print(time_to_mark.table(found["marks"]), flush=True)
    if "scaling" in flags.parts:
        found["scaling"] = scaling(base, axes, max(flags.rounds // 3, 1), flags.seconds)
        print(scaling_table(found["scaling"]), flush=True)
        throughput_figure.draw(flags.out / "throughput.png", found["scaling"])
    (flags.out / "throughput.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    device, versions = jax.devices()[0], environment.versions()
    if torch is not None:
        versions["torch"] = torch.__version__
    return {"versions": versions, "device": device.device_kind, "cpu_count": os.cpu_count()}


def describe(found: Mapping[str, Any]) -> str:
    """Return the environment as a line."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return f"{versions}; {found['device']} ({found['cpu_count']} cores), float32"


def throughput(
    base: PretrainConfig, paths: Sequence[str], evosax: Sequence[str], rounds: int, seconds: float
) -> dict[str, Any]:
    """Measure generations of the default task, by everything that can do them.

    Returns:
      `ms`: by name, ms a generation in each round; `compile`: by name, seconds of compilation.
    """
    runs: dict[str, Run] = {}
    compiled: dict[str, float] = {}
    for path in paths:
        config = dataclasses.replace(base, evaluation=path)
        runs[f"ours, {path}"], compiled[f"ours, {path}"] = whole_run(config)
        runs[f"ours, {path}, search alone"] = search_run(config)
    for strategy in evosax:
        runs[f"evosax, {strategy}"], compiled[f"evosax, {strategy}"] = whole_run(
            dataclasses.replace(base, strategy=strategy)
        )
    for way in torch_pretrain.WAYS if torch is not None else ():
        runs[f"PyTorch, {way}"] = torch_run(base, way, fresh=True)
        runs[f"PyTorch, {way}, predictions drawn once"] = torch_run(base, way, fresh=False)
    return {"ms": interleave(runs, rounds, seconds), "compile": compiled}


def scaling(
    base: PretrainConfig, axes: Mapping[str, Sequence[int]], rounds: int, seconds: float
) -> dict[str, list[dict[str, Any]]]:
    """Measure generations over one size at a time: by axis, rows of `value` and `ms` (by name, one a round)."""
    found: dict[str, list[dict[str, Any]]] = {}
    for axis, values in axes.items():
        found[axis] = []
        for value in values:
            config = resized(base, axis, value)
            runs = {"tabulated": whole_run(config)[0]}
            if work(config) <= _MOST_WORK * work(base):
                runs["plain"] = whole_run(dataclasses.replace(config, evaluation="plain"))[0]
                for way in ("blocks", "loop") if torch is not None else ():
                    runs[f"PyTorch, {way}"] = torch_run(config, way, fresh=False)
            found[axis].append({"value": value, "ms": interleave(runs, rounds, seconds)})
    return found


def resized(base: PretrainConfig, axis: str, value: int) -> PretrainConfig:
    """Return the config with another size along an axis."""
    if axis == "population":
        return dataclasses.replace(base, es=dataclasses.replace(base.es, population_size=value))
    if axis == "width":
        hidden = (value,) * len(base.network.hidden)
        return dataclasses.replace(base, network=dataclasses.replace(base.network, hidden=hidden))
    if axis == "pairs":
        return dataclasses.replace(base, num_pairs=value)
    return dataclasses.replace(base, num_classes=value)


def work(config: PretrainConfig) -> float:
    """Return the multiplications of a generation without tables, roughly."""
    widths = (3, *config.network.hidden, 1)
    network = sum(a * b for a, b in itertools.pairwise(widths))
    # Narrow layers are bound by their activations, not by the products.
    return float(config.es.population_size * config.num_pairs / config.reuse * config.num_classes * max(network, 320))


def whole_run(config: PretrainConfig) -> tuple[Run, float]:
    """Return (whole generations of a run, seconds of compilation)."""
    init, evolve, seconds = time_to_mark.compiled(config, _CHUNK)[1:]
    search, inputs = init(jax.random.key(config.seed)[None])

    def run(count: int) -> None:
        nonlocal search
        search, metrics = evolve(search, inputs, jnp.int32(count))
        jax.block_until_ready(metrics)

    return run, seconds


def search_run(config: PretrainConfig) -> Run:
    """Return generations that only draw, ask, score and tell."""
    start, unravel = ravel_pytree(init_network(jax.random.key(0), config.network, config.num_classes))
    algorithm, params = create(config.strategy, start, config.es)

    @jax.jit
    def generations(state: Any, key: jax.Array, count: jax.Array) -> Any:
        def body(i: jax.Array, state: Any) -> Any:
            ask_key, batch_key, tell_key = jax.random.split(jax.random.fold_in(key, i), 3)
            population, state = algorithm.ask(ask_key, state, params)
            scores, _ = fitness(config, jax.vmap(unravel)(population), draw(batch_key, config, config.num_pairs))
            return algorithm.tell(tell_key, population, scores, state, params)[0]

        return jax.lax.fori_loop(0, count, body, state)

    state = algorithm.init(jax.random.key(1), start, params)

    def run(count: int) -> None:
        nonlocal state
        state = jax.block_until_ready(generations(state, jax.random.key(2), jnp.int32(count)))

    return run


def torch_run(config: PretrainConfig, way: str, *, fresh: bool) -> Run:
    """Return generations in PyTorch, on the GPU where JAX uses one."""
    start = init_network(jax.random.key(0), config.network)
    flat = torch.from_numpy(np.array(ravel_pytree(start)[0]))
    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    return torch_pretrain.Evolution(config, config.es, flat, way, fresh=fresh, device=device).run


def interleave(runs: Mapping[str, Run], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return ms a generation of each run in each round, all run in turns after a warm-up."""
    counts = {}
    for name, run in runs.items():
        run(1)
        start = time.perf_counter()
        run(2)
        counts[name] = int(np.clip(seconds / (time.perf_counter() - start) * 2, 1, _CHUNK))
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            run(1)  # caches and threads belong to this one again
            start = time.perf_counter()
            run(counts[name])
            found[name].append(1e3 * (time.perf_counter() - start) / counts[name])
    return found


def throughput_table(found: Mapping[str, Any]) -> str:
    """Return generations/s with quartiles, and the ratio to the fastest PyTorch row with quartiles, as markdown."""
    ms = {name: np.array(values) for name, values in found["ms"].items()}
    torches = [name for name in ms if name.startswith("PyTorch")]
    fastest = min(torches, key=lambda name: np.median(ms[name])) if torches else None
    rows = []
    for name, values in ms.items():
        compiled = found["compile"].get(name)
        rows.append(
            [
                name,
                quartiles(values),
                quartiles(1e3 / values),
                quartiles(ms[fastest] / values) if fastest else "",
                f"{compiled:.2f}" if compiled else "",
            ]
        )
    head = ["", "ms a generation", "generations/s", f"times {fastest or 'PyTorch'}", "compilation, s"]
    return time_to_mark.markdown(head, rows)


def scaling_table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return ms a generation over each size as markdown."""
    names = list(dict.fromkeys(name for rows in found.values() for row in rows for name in row["ms"]))
    rows = [
        [
            axis,
            f"{row['value']:,}",
            *(quartiles(np.array(row["ms"][name])) if name in row["ms"] else "" for name in names),
        ]
        for axis, values in found.items()
        for row in values
    ]
    return time_to_mark.markdown(["size", "", *(f"{name}, ms" for name in names)], rows)


def quartiles(values: np.ndarray) -> str:
    """Return `median (first quartile to third)`, three digits or more."""
    low, middle, high = (f"{x:,.0f}" if x >= 1000.0 else f"{x:.3g}" for x in np.quantile(values, [0.25, 0.5, 0.75]))
    return f"{middle} ({low} to {high})"


if __name__ == "__main__":
    main()
