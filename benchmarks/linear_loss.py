"""What a linear layer's loss costs without its logits: python benchmarks/linear_loss.py

Value and gradient, in the hidden states and the weights, of the mean loss of 4,096 tokens of width 512 with 32,000
classes, in two forms: `loss.linear`, a chunk of logits at a time, and the loss on `hidden @ weights`.

1. Time of each, in turns, so that other load hits both: medians, and the ratio of neighbouring measurements with its
   quartiles. Compilation is left out.
2. Memory: what the compiled programs ask for beside arguments and results, and the peak resident size of a process that
   runs one of them once, less that of a process that runs neither.

About five minutes on two cores; --out gets the numbers as JSON.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax import loss

FORMS = ("linear", "plain")
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loss", default="edl_optimum", help="a loss of p_t alone")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=32_000)
    parser.add_argument("--chunk", type=int, help="tokens at a time; without it 64 MiB of logits")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--rounds", type=int, default=10, help="measurements of each form")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    parser.add_argument("--peak-of", choices=(*FORMS, "neither"), help=argparse.SUPPRESS)  # what a subprocess does
    flags = parser.parse_args()
    if flags.peak_of:
        print(peak(flags))
        return
    device = jax.devices()[0]
    settings = {
        name: getattr(flags, name) for name in ("loss", "tokens", "width", "classes", "chunk", "dtype", "rounds")
    }
    machine = {"jax": jax.__version__, "platform": device.platform, "cores": os.cpu_count()}
    print(f"jax {jax.__version__}, {device.platform} ({os.cpu_count()} cores), {settings}", flush=True)
    arrays = draw(flags)
    programs = {form: compiled(form, flags, arrays) for form in FORMS}
    found: dict[str, Any] = settings | machine | {"memory": {form: memory(programs[form]) for form in FORMS}}
    found["time"] = times(programs, arrays, flags.rounds)
    base = peak_in_a_process("neither")
    for form in FORMS:
        found["memory"][form]["peak_rss_mib"] = peak_in_a_process(form) - base
    report(found)
    if flags.out:
        flags.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def draw(flags: argparse.Namespace) -> tuple[jax.Array, ...]:
    """Return hidden states `[N, D]`, weights `[D, C]` and labels `[N]`."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((flags.tokens, flags.width), np.float32)
    weights = rng.standard_normal((flags.width, flags.classes), np.float32) / np.sqrt(flags.width)
    labels = rng.integers(0, flags.classes, flags.tokens)
    return jnp.asarray(hidden, flags.dtype), jnp.asarray(weights, flags.dtype), jnp.asarray(labels, jnp.int32)


def compiled(form: str, flags: argparse.Namespace, arrays: tuple[jax.Array, ...]) -> Any:
    """Return the compiled value and gradient of a form."""
    function = loss.get(flags.loss)

    def objective(hidden: jax.Array, weights: jax.Array, labels: jax.Array) -> jax.Array:
        if form == "linear":
            return jnp.mean(loss.linear(hidden, weights, labels, loss=function, chunk=flags.chunk))
        return jnp.mean(function(hidden @ weights, labels).astype(jnp.float32))

    return jax.jit(jax.value_and_grad(objective, (0, 1))).lower(*arrays).compile()


def times(programs: dict[str, Any], arrays: tuple[jax.Array, ...], rounds: int) -> dict[str, Any]:
    """Return the milliseconds of each form, and the quartiles of the ratio of linear to plain."""
    for program in programs.values():
        seconds_of(program, arrays)
    seconds: dict[str, list[float]] = {form: [] for form in FORMS}
    for turn in range(rounds):
        for form in FORMS if turn % 2 == 0 else reversed(FORMS):
            seconds[form].append(seconds_of(programs[form], arrays))
    ratios = [linear / plain for linear, plain in zip(*(seconds[form] for form in FORMS), strict=True)]
    return {
        "ms": {form: [1e3 * x for x in values] for form, values in seconds.items()},
        "ratio_quartiles": statistics.quantiles(ratios, n=4),
    }


def seconds_of(program: Callable[..., Any], arrays: tuple[jax.Array, ...]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(program(*arrays))
    return time.perf_counter() - start


def memory(program: Any) -> dict[str, float]:
    """Return what a compiled program asks for beside its arguments and results, MiB."""
    return {"temporary_mib": program.memory_analysis().temp_size_in_bytes / MIB}


def peak(flags: argparse.Namespace) -> float:
    """Run a form once, or neither, and return the peak resident size of this process, MiB."""
    arrays = jax.block_until_ready(draw(flags))
    if flags.peak_of != "neither":
        jax.block_until_ready(compiled(flags.peak_of, flags, arrays)(*arrays))
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says there begins with the size of the parent
        return float(status.read_text(encoding="utf-8").split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB


def peak_in_a_process(form: str) -> float:
    """Return the peak resident size of a fresh process with the flags of this one, MiB."""
    command = [sys.executable, *sys.argv, "--peak-of", form]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def report(found: dict[str, Any]) -> None:
    """Print a line a form, and the ratio."""
    for form in FORMS:
        of_form = found["memory"][form]
        print(
            f"  {form:8s} {statistics.median(found['time']['ms'][form]):10.1f} ms"
            f"   {of_form['temporary_mib']:8.1f} MiB temporary   {of_form['peak_rss_mib']:8.1f} MiB more at the peak"
        )
    low, middle, high = found["time"]["ratio_quartiles"]
    print(f"  time of linear: {middle:.3f} ({low:.3f} to {high:.3f}) of plain")


if __name__ == "__main__":
    main()
