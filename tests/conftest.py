"""Strict settings for every test: our own code never promotes ranks, warnings are errors."""

import collections
import contextlib
import functools
import gc
import importlib.metadata
import itertools
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Not the user's own cache, where the command line would keep programs and decoded images.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".cache" / "jax"))
os.environ.setdefault("EDL_JAX_CACHE_DIR", str(Path(__file__).parent.parent / ".cache" / "data"))
if importlib.metadata.version("jaxlib").startswith("0.10."):  # a flag that jaxlib does not know ends the process
    # XLA's older code generator compiles our small programs in a third of the time. XLA_FLAGS="" tests the other one.
    # Nor is a program cut into parts for threads that the workers do not have: that costs a tenth of the time.
    flags = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ.setdefault("XLA_FLAGS", flags)

import jax
import pytest

try:
    from jax._src.interpreters import mlir
except ImportError:  # jax's own, which another version may not have
    mlir = None

jax.config.update("jax_numpy_rank_promotion", "raise")
gc.set_threshold(200_000, 20, 100)  # jax's traces make so many objects that collections take 4 % of the time


def share_contexts(programs=50):
    """Let so many programs be lowered in one MLIR context: one of its own takes a fifth of what a small program costs.

    jax's own name, which another version may not have: then each program has its own again.
    """
    make = getattr(mlir, "make_ir_context", None)
    if make is None:
        return
    served = itertools.count()
    made = functools.lru_cache(maxsize=1)(lambda _: make())
    mlir.make_ir_context = lambda: made(next(served) // programs)


share_contexts()


def pytest_collection_finish():
    """Leave what imports have made out of all later collections."""
    gc.freeze()


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def quick_compilation():
    """Let XLA compile fast rather than well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def compilations():
    """Return a context manager that yields a Counter of the programs compiled inside it, by name: `jit(f)`."""

    @contextlib.contextmanager
    def count():
        counts = collections.Counter()

        def listen(event, duration, *, fun_name="", **_):
            if event == "/jax/core/compile/backend_compile_duration":
                counts[fun_name] += 1

        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            yield counts
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)

    return count
