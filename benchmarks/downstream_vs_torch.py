"""Training on a CPU beside PyTorch: python benchmarks/downstream_vs_torch.py  (needs `pip install -e ".[bench]"`)

The same network, batch, optimizer (SGD, Nesterov) and float32 in PyTorch, channels_last. What is compared runs in
turns, in a random order each, so that other load hits all; ratios are medians of the ratios within a turn, with their
quartiles. Compilation is left out. PyTorch's threads spin while they wait: on a busy machine compare the CPU's time,
with OMP_WAIT_POLICY=passive in the environment. `--tries` adds what was tried to make ours faster: other sets of
operations given to the library YNNPACK by XLA, other convolutions, and each of our forms of layers
(`edl_jax.models.cpu_forms`, `cpu_conv`) left out.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import convolutions
import idle
import jax
import jax.numpy as jnp
import numpy as np
import plain_forms
import torch
import torch_classifiers

from edl_jax import loss, models, training
from edl_jax.backend import allocator, compiler

LR = 0.01
_OTHERS = 0.15
_YNN = "xla_cpu_experimental_ynn_fusion_type"


class Cost(NamedTuple):
    """Seconds of a step: of the clock, and of the CPU over all cores, which other load changes less."""

    wall: float
    cpu: float


class Try(NamedTuple):
    """XLA's options, the name of a convolution, and of a form that is left out (None: ours)."""

    options: dict[str, str | bool]
    convolution: str | None = None
    without: str | None = None


def ynn(*kinds: str) -> dict[str, str | bool]:
    """Return XLA's option that gives just these kinds of operations to YNNPACK."""
    return {_YNN: ",".join(f"LIBRARY_FUSION_TYPE_{kind}" for kind in kinds)}


def tries() -> dict[str, Try]:
    """Return what `--tries` compares beside ours."""
    ours = compiler.options()
    return {
        "jaxlib's default": Try({}),
        "nothing to YNNPACK": Try(ynn()),
        "products alone": Try(ynn("INDIVIDUAL_DOT")),
        "reductions alone": Try(ynn("REDUCE")),
        "products, reductions, element-wise": Try(ynn("INDIVIDUAL_DOT", "DOT", "ELTWISE", "REDUCE")),
        **{f"without {part}": Try(ours, without=part) for part in plain_forms.PARTS},
        **{name: Try(ours, name) for name in convolutions.CONVOLUTIONS},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", nargs="+", default=list(torch_classifiers.MODELS), choices=torch_classifiers.MODELS)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9, help="turns")
    parser.add_argument("--steps", type=int, default=2, help="training steps a turn")
    parser.add_argument(
        "--patience", type=float, default=0.0, help="seconds to wait for a machine that others leave idle"
    )
    parser.add_argument("--malloc", choices=("kept", "default"), default="kept", help="what becomes of freed memory")
    parser.add_argument("--tries", action="store_true", help="everything that was tried")
    flags = parser.parse_args()
    kept = flags.malloc == "kept" and allocator.keep_freed_memory()
    print(
        f"jax {jax.__version__}, torch {torch.__version__}, {os.cpu_count()} cores, batch {flags.batch_size}, float32, "
        f"{flags.rounds} turns of {flags.steps} steps, freed memory {'kept' if kept else 'given back'}"
    )
    for arch in flags.archs:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (flags.batch_size, 32, 32, 3), np.uint8)
        labels = rng.integers(0, 10, flags.batch_size, np.int32)
        steps = {
            "PyTorch": torch_classifiers.make_step(arch, images, labels, LR),
            "ours": make_step(arch, images, labels, Try(compiler.options())),
        }
        if flags.tries:
            steps |= {name: make_step(arch, images, labels, chosen) for name, chosen in tries().items()}
        print(f"\n{arch}", flush=True)
        report(measure(steps, flags.rounds, flags.steps, flags.patience), flags.batch_size)


def make_step(arch: str, images: np.ndarray, labels: np.ndarray, chosen: Try) -> Callable[[], float]:
    """Return a function that takes one training step on a batch and returns the sum of all losses so far."""
    model, optimizer = models.create(arch, 10), training.sgd(LR)
    state = jax.jit(lambda key: training.create_state(key, model, images.shape[1:], optimizer))(jax.random.key(0))
    step = training.make_train_step(
        model, loss.get("cross_entropy"), optimizer, lambda x: (x.astype(jnp.float32) / 255.0 - 0.5) / 0.25
    )
    sums, key = training.TrainSums.zeros(), jax.random.key(1)
    arguments = (key, jnp.asarray(images), jnp.asarray(labels))
    with convolutions.used_by_models(chosen.convolution), plain_forms.without(chosen.without):
        lowered = jax.jit(step, donate_argnums=(0, 1)).lower(state, sums, *arguments)
    compiled = lowered.compile(compiler_options=chosen.options)

    def run() -> float:
        nonlocal state, sums
        state, sums = compiled(state, sums, *arguments)
        return float(sums.loss)  # waits

    return run


def measure(steps: dict[str, Callable[[], float]], rounds: int, count: int, patience: float) -> dict[str, list[Cost]]:
    """Return for each step what it took in each turn.

    Args:
      steps: what is compared.
      rounds: turns to take.
      count: steps a turn.
      patience: seconds for which a turn is repeated while others keep more than `_OTHERS` cores busy.
    """
    for step in steps.values():
        step()
        step()
    costs: dict[str, list[Cost]] = {name: [] for name in steps}
    deadline, disturbed = time.monotonic() + patience, 0
    rng = np.random.default_rng(0)
    while len(costs["PyTorch"]) < rounds:
        taken, begin, turns = idle.taken(), time.perf_counter(), {}
        for name in rng.permutation(list(steps)):
            start, cpu = time.perf_counter(), time.process_time()
            for _ in range(count):
                steps[name]()
            turns[name] = Cost((time.perf_counter() - start) / count, (time.process_time() - cpu) / count)
        if idle.others(taken, time.perf_counter() - begin) > _OTHERS:
            if time.monotonic() < deadline:
                time.sleep(1.0)
                continue
            disturbed += 1
        for name, value in turns.items():
            costs[name].append(value)
    print(f"  others kept more than {_OTHERS} cores busy in {disturbed} of {rounds} turns")
    return costs


def report(costs: dict[str, list[Cost]], batch_size: int) -> None:
    """Print milliseconds, images/s, the rate over PyTorch's, and the same of CPU time, all cores together."""
    for name, mine in costs.items():
        wall, cpu = (statistics.median(values) for values in zip(*mine, strict=True))
        pairs = list(zip(mine, costs["PyTorch"], strict=True))
        by_wall, by_cpu = (_quartiles([other[i] / own[i] for own, other in pairs]) for i in (0, 1))
        print(
            f"  {name:36s} {1e3 * wall:8.1f} ms {batch_size / wall:8.0f} images/s   {by_wall} of PyTorch   "
            f"CPU {1e3 * cpu:8.1f} ms   {by_cpu}",
            flush=True,
        )


def _quartiles(ratios: list[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
