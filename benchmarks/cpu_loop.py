"""Speed of the training loops on CPU: python benchmarks/cpu_loop.py

1. The loop that `--loop auto` chooses on CPU (jitted steps) against the scanned epoch and against steps on images that
   stay on the host (stream), ms a step.
2. Images/s of preset `cpu`'s loop (augmentation, metrics and the check for non-finite values included)
   against a bare Python loop over a plain step, compiled with the same options: model, cross-entropy and SGD on one
   fixed batch.

Random images of CIFAR's shape suffice. What is compared runs in turns, so that other load hits both; medians
over rounds; compilation is left out. About four minutes on two cores, nearly all of it in the scans.
"""

import argparse
import dataclasses
import os
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from edl_jax import data, models, training
from edl_jax.backend import allocator, compiler
from edl_jax.core.config import load_preset
from edl_jax.downstream import DownstreamConfig

NUM_CLASSES = 10
cross_entropy = optax.losses.softmax_cross_entropy_with_integer_labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", nargs="+", default=["resnet8", "lenet5"], choices=models.names())
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each loop")
    parser.add_argument("--scan-steps", type=int, default=3, help="steps of an epoch against scan")
    parser.add_argument("--bare-steps", type=int, default=20, help="steps of an epoch against the bare loop")
    parser.add_argument("--batch-size", type=int, default=128)
    flags = parser.parse_args()
    allocator.keep_freed_memory()  # as the command does
    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {device.platform} ({os.cpu_count()} cores), batch {flags.batch_size}, float32")

    print("\nloops, ms a step (median)")
    for arch in flags.archs:
        loops = {
            loop: epoch_timer(arch, loop, flags.scan_steps, flags.batch_size) for loop in ("steps", "stream", "scan")
        }
        seconds = interleave(loops, flags.rounds)
        shown = [f"{loop} {1e3 * found / flags.scan_steps:9.1f}" for loop, found in seconds.items()]
        ratios = [f"{loop}/steps {seconds[loop] / seconds['steps']:6.2f}" for loop in ("stream", "scan")]
        print(f"  {arch:10s} {'   '.join((*shown, *ratios))}", flush=True)

    preset = load_preset("downstream", "cpu", DownstreamConfig())
    timers = {
        "preset": epoch_timer(
            preset.arch, "steps", flags.bare_steps, preset.batch_size, augment=preset.augment.crop_flip
        ),
        "bare": bare_timer(preset.arch, flags.bare_steps, preset.batch_size),
    }
    images = flags.bare_steps * preset.batch_size
    rates = {name: images / seconds for name, seconds in interleave(timers, 2 * flags.rounds).items()}
    print(f"\npreset cpu ({preset.arch}, batch {preset.batch_size}) against a bare jitted step, images/s (median)")
    ratio = rates["preset"] / rates["bare"]
    print(f"  preset {rates['preset']:7.0f}   bare {rates['bare']:7.0f}   preset/bare {ratio:5.3f}")


def interleave(timers: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each timer, all run in turns after one warm-up."""
    for timer in timers.values():
        timer()
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(rounds):
        for name, timer in timers.items():
            seconds[name].append(timer())
    return {name: statistics.median(values) for name, values in seconds.items()}


def random_images(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return images, rng.integers(0, NUM_CLASSES, count).astype(np.int32)


def epoch_timer(arch: str, loop: str, steps: int, batch_size: int, *, augment: bool = True) -> Callable[[], float]:
    """Return a function that trains an epoch as `downstream` does and returns its seconds."""
    images, labels = random_images(steps * batch_size)
    model = models.create(arch, NUM_CLASSES)
    optimizer = training.sgd(training.warmup_cosine(0.1, 10_000, 100))
    half = jnp.full((3,), 0.5)

    def crop_flip(key: jax.Array, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        return data.random_crop_flip(key, images), labels

    state = jax.jit(lambda key: training.create_state(key, model, (32, 32, 3), optimizer))(jax.random.key(0))
    train_epoch = training.compile_epoch(
        training.make_train_step(
            model,
            cross_entropy,
            optimizer,
            lambda images: data.normalize(images, half, half),
            crop_flip if augment else None,
        ),
        state,
        jax.random.key(1),
        images if loop == "stream" else jax.device_put(images),
        labels if loop == "stream" else jax.device_put(labels),
        batch_size=batch_size,
        loop=loop,
    )

    def timer() -> float:
        nonlocal state
        start = time.perf_counter()
        state, _ = train_epoch(state, 0)
        jax.block_until_ready(state)
        return time.perf_counter() - start

    return timer


def bare_timer(arch: str, steps: int, batch_size: int) -> Callable[[], float]:
    """Return a function that runs a plain jitted step in a Python loop and returns its seconds."""
    images, labels = random_images(batch_size)
    inputs, targets = jnp.asarray(images, jnp.float32) / 127.5 - 1.0, jnp.asarray(labels)
    model = models.create(arch, NUM_CLASSES)
    optimizer = training.sgd(0.1)
    carry = jax.jit(lambda key: training.create_state(key, model, (32, 32, 3), optimizer))(jax.random.key(0))

    def step(state: training.TrainState, inputs: jax.Array, targets: jax.Array) -> training.TrainState:
        def objective(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            logits, updated = model.apply(variables, inputs, train=True, mutable=["batch_stats"])
            return jnp.mean(cross_entropy(logits, targets)), updated.get("batch_stats", {})

        grads, batch_stats = jax.grad(objective, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return dataclasses.replace(state, params=params, batch_stats=batch_stats, opt_state=opt_state)

    compiled = compiler.compile_lowered(jax.jit(step, donate_argnums=0).lower(carry, inputs, targets))

    def timer() -> float:
        nonlocal carry
        start = time.perf_counter()
        for _ in range(steps):
            carry = compiled(carry, inputs, targets)
        jax.block_until_ready(carry)
        return time.perf_counter() - start

    return timer


if __name__ == "__main__":
    main()
