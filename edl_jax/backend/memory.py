"""The memory of the device and of the host, and whether a compiled program fits in it, before it runs."""

import contextlib
import os
from pathlib import Path
from typing import Any

import jax

from edl_jax.core.errors import UserError

# Left to the rest of the process and of the machine.
_SHARE = 0.9
_LIMIT_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def available_bytes() -> int | None:
    """Return the free memory of the default device in bytes, or None where it is not known."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        limit = stats.get("bytes_limit")
        return None if limit is None else int(limit - stats.get("bytes_in_use", 0))
    return host_available_bytes()


def host_available_bytes() -> int | None:
    """Return the free memory of the host in bytes, or None where it is not known."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def total_bytes() -> int | None:
    """Return the whole memory of the default device in bytes, or None where it is not known."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        limit = (device.memory_stats() or {}).get("bytes_limit")
        return None if limit is None else int(limit)
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return min([physical, *_container_limits()])


def _container_limits() -> list[int]:
    """Return the limits on memory that a container (cgroup version 2 or 1) puts on this process."""
    limits = []
    for file in _LIMIT_FILES:
        with contextlib.suppress(OSError, ValueError):  # "max" where there is none
            limits.append(int(file.read_text(encoding="ascii")))
    return limits


def require_fit(compiled: Any, runs: int, population_size: int) -> None:
    """Raise unless a compiled chunk of `runs` runs fits in free memory.

    Args:
      compiled: the compiled program, with XLA's memory analysis.
      runs: R.
      population_size: members of each run, for the message.

    Raises:
      UserError: it does not fit; says what would.
    """
    free, stats = available_bytes(), compiled.memory_analysis()
    if free is None or stats is None:
        return
    carried = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    temporary = stats.temp_size_in_bytes
    need, usable = carried + temporary, _SHARE * free
    if need <= usable:
        return
    # On a CPU runs follow one another: they share their temporary memory, but for a copy of what each hands on.
    shared = max(temporary - stats.alias_size_in_bytes, 0.0) if jax.default_backend() == "cpu" else 0.0
    fitting = int(max(usable - shared, 0.0) * runs // (need - shared))
    if fitting >= 1:
        raise UserError(
            f"{runs} runs need {need / 2**30:.1f} GiB of the {free / 2**30:.1f} GiB that are free: "
            f"{fitting} would fit, give --runs {fitting}"
        )
    one = (need - shared) / runs + shared
    # A tenth less: not all of it grows with the population.
    smaller = int(0.9 * population_size * usable / one)
    # Fewer members help where they are what fills the memory.
    hint = f"--population-size (about {smaller} would fit), " if smaller >= 2 else "--population-size, "
    raise UserError(
        f"a run of {population_size} members would need {one / 2**30:.1f} GiB of the {free / 2**30:.1f} GiB that are "
        f"free: lower {hint}--num-pairs or --held-out-pairs"
    )
