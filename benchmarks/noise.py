"""Cost of chaotic noise against jax.random.normal: python benchmarks/noise.py

For every map and control, `advance` and `noise` of a population's shape under jit, many steps in one `lax.scan`, so
that the cost of a call does not count. The two that are compared run in turns, so that other load hits both; the
ratio is taken turn by turn, and its median and quartiles are printed. Compilation is left out. About a minute.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.strategies import maps

Step = Callable[[jax.Array, Any], tuple[Any, jax.Array]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", nargs="+", default=maps.names(), choices=maps.names())
    parser.add_argument("--shape", nargs=2, type=int, default=[128, 353], help="members and parameters")
    parser.add_argument("--steps", type=int, default=200, help="steps of one measurement")
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each")
    flags = parser.parse_args()
    shape = tuple(flags.shape)
    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {device.device_kind} ({os.cpu_count()} cores), noise {shape}, float32")

    def gaussian(key: jax.Array, state: Any) -> tuple[Any, jax.Array]:
        return state, jax.random.normal(key, shape)

    normal = timer(gaussian, (), shape, flags.steps)
    print(f"\n{'map':10s} {'control':17s} {'us a step':>9s} {'normal':>7s} {'ratio':>6s}   quartiles")
    for name in flags.maps:
        for control in maps.CONTROLS:
            source = maps.get(name, control=control)
            chaos = timer(advance_of(source), source.init(jax.random.key(1), shape), shape, flags.steps)
            seconds = np.array([(chaos(), normal()) for _ in range(flags.rounds)])
            low, ratio, high = np.quantile(seconds[:, 0] / seconds[:, 1], [0.25, 0.5, 0.75])
            chaotic, plain = 1e6 * np.median(seconds, axis=0) / flags.steps
            print(
                f"{name:10s} {control:17s} {chaotic:9.1f} {plain:7.1f} {ratio:6.3f}   {low:.3f} {high:.3f}", flush=True
            )


def advance_of(source: maps.ChaoticMap) -> Step:
    """Return one step of a noise source."""

    def step(key: jax.Array, state: Any) -> tuple[Any, jax.Array]:
        state = source.advance(key, state)
        return state, source.noise(state)

    return step


def timer(step: Step, state: Any, shape: tuple[int, ...], steps: int) -> Callable[[], float]:
    """Return a function that runs a compiled scan of steps and returns its seconds."""

    @jax.jit
    def run(key: jax.Array, state: Any) -> tuple[Any, jax.Array]:
        def body(carry: tuple[Any, jax.Array], key: jax.Array) -> tuple[tuple[Any, jax.Array], None]:
            state, noise = step(key, carry[0])
            return (state, 0.5 * carry[1] + noise), None  # every step's noise is used

        return jax.lax.scan(body, (state, jnp.zeros(shape)), jax.random.split(key, steps))[0]

    def seconds() -> float:
        start = time.perf_counter()
        jax.block_until_ready(run(jax.random.key(0), state))
        return time.perf_counter() - start

    seconds()
    return seconds


if __name__ == "__main__":
    main()
