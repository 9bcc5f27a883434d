"""What a loss costs: python benchmarks/loss_overhead.py

1. A training step of ResNet-20 (batch 128, random images of CIFAR's shape) with `edl` against cross-entropy.
2. Value and gradient of the losses alone, batch 256 and 1,024, C from 10 to 32,000, against optax's cross-entropy.

What is compared runs in turns, so that other load hits both. Ratios are medians of the ratios of neighbouring
measurements, with their quartiles; compilation is left out. About five minutes on two cores.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from edl_jax import loss, models, training

BATCH = 128  # of the training step
SIZES = ((256, 10), (1024, 10), (256, 100), (1024, 100), (256, 1000), (1024, 1000), (256, 32_000), (1024, 32_000))
optax_cross_entropy = optax.losses.softmax_cross_entropy_with_integer_labels
Timer = Callable[[], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet20", choices=models.names())
    parser.add_argument("--losses", nargs="+", default=["edl", "cross_entropy"], help="beside optax's cross-entropy")
    parser.add_argument("--rounds", type=int, default=20, help="measurements of each")
    parser.add_argument("--steps", type=int, default=2, help="training steps a measurement")
    parser.add_argument("--no-step", action="store_true", help="leave out the training step")
    flags = parser.parse_args()
    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {device.platform} ({os.cpu_count()} cores), float32, {flags.rounds} rounds")
    functions = {"optax": optax_cross_entropy} | {name: loss.get(name) for name in flags.losses}

    if not flags.no_step:
        print(f"\ntraining step of {flags.arch}, batch {BATCH}")
        report({name: step_timer(flags.arch, function, flags.steps) for name, function in functions.items()}, flags)
    for batch, num_classes in SIZES:
        print(f"\nvalue and gradient alone, batch {batch}, C = {num_classes}")
        report({name: alone_timer(function, batch, num_classes) for name, function in functions.items()}, flags)


def report(timers: dict[str, Timer], flags: argparse.Namespace) -> None:
    """Print milliseconds of each timer and its ratio to the first one."""
    for timer in timers.values():
        timer()
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    names = list(timers)
    for turn in range(flags.rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            seconds[name].append(timers[name]())
    first = seconds[names[0]]
    for name, values in seconds.items():
        ratios = [mine / other for mine, other in zip(values, first, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        spread = f"{middle:6.3f} ({low:.3f} to {high:.3f}) of {names[0]}"
        print(f"  {name:16s} {1e3 * statistics.median(values):9.3f} ms   {spread}", flush=True)


def step_timer(arch: str, function: Callable[..., jax.Array], steps: int) -> Timer:
    """Return a function that runs training steps and returns the seconds of one."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.standard_normal((BATCH, 32, 32, 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 10, BATCH), jnp.int32)
    model, optimizer = models.create(arch, 10), training.sgd(0.1)
    state = jax.jit(lambda key: training.create_state(key, model, (32, 32, 3), optimizer))(jax.random.key(0))
    step = training.make_train_step(model, function, optimizer, lambda images: images)
    compiled, sums, key = jax.jit(step, donate_argnums=(0, 1)), training.TrainSums.zeros(), jax.random.key(1)

    def timer() -> float:
        nonlocal state, sums
        start = time.perf_counter()
        for _ in range(steps):
            state, sums = compiled(state, sums, key, images, labels)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / steps

    return timer


def alone_timer(function: Callable[..., jax.Array], batch: int, num_classes: int) -> Timer:
    """Return a function that computes value and gradient a few times and returns the seconds of one."""
    rng = np.random.default_rng(0)
    logits = jnp.asarray(3.0 * rng.standard_normal((batch, num_classes)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, num_classes, batch), jnp.int32)
    compiled = jax.jit(jax.value_and_grad(lambda z, y: jnp.mean(function(z, y))))
    repeats = max(1, 20_000_000 // (num_classes * batch))

    def timer() -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            result = compiled(logits, labels)
        jax.block_until_ready(result)
        return (time.perf_counter() - start) / repeats

    return timer


if __name__ == "__main__":
    main()
