"""Freed memory is kept for the next training step on a CPU.

A program's temporary buffer, about 100 MB for a small network, is allocated at each step. glibc takes a block of this
size from the kernel and gives it back when it is freed, so every step pays for tens of thousands of page faults:
a quarter of a step of ResNet-8 (`benchmarks/downstream_vs_torch.py --malloc default`).
"""

import ctypes
import os
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed, and return whether it will; to be called before JAX starts its threads.

    One arena for all threads, since only the first can hold more than 64 MB. Nothing is done without glibc, or when a
    variable MALLOC_... or GLIBC_TUNABLES says what the user wants.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all(mallopt(*option) for option in ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER)))
