"""Threads that compile programs at the same time: compilation holds no lock of Python."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import jax

# What JAX keeps for each thread and a program depends on: the device, the numbers, what is an error.
_SETTINGS: dict[str, Callable[[Any], AbstractContextManager[None]]] = {
    "jax_check_tracer_leaks": jax.check_tracer_leaks,
    "jax_debug_infs": jax.debug_infs,
    "jax_debug_key_reuse": jax.debug_key_reuse,
    "jax_debug_nans": jax.debug_nans,
    "jax_default_device": jax.default_device,
    "jax_default_matmul_precision": jax.default_matmul_precision,
    "jax_default_prng_impl": jax.default_prng_impl,
    "jax_disable_jit": jax.disable_jit,
    "jax_enable_x64": jax.enable_x64,
    "jax_log_compiles": jax.log_compiles,
    "jax_numpy_dtype_promotion": jax.numpy_dtype_promotion,
    "jax_numpy_rank_promotion": jax.numpy_rank_promotion,
    "jax_threefry_partitionable": jax.threefry_partitionable,
    "jax_transfer_guard_device_to_device": jax.transfer_guard_device_to_device,
    "jax_transfer_guard_device_to_host": jax.transfer_guard_device_to_host,
    "jax_transfer_guard_host_to_device": jax.transfer_guard_host_to_device,
}


class Threads(ThreadPoolExecutor):
    """A thread pool whose functions run under the JAX settings of the thread that hands them in.

    As a context manager it waits for its threads, except on an interrupt. An exception cancels what has not begun.
    """

    def submit(self, function: Callable[..., Any], /, *args: Any, **keywords: Any) -> Future[Any]:
        """Run `function` in a thread."""
        settings = [enter(getattr(jax.config, name)) for name, enter in _SETTINGS.items()]

        def run() -> Any:
            with ExitStack() as stack:
                for setting in settings:
                    stack.enter_context(setting)
                return function(*args, **keywords)

        return super().submit(run)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for the threads, but not on an interrupt: what XLA compiles cannot be stopped."""
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        self.shutdown(wait=not interrupted, cancel_futures=kind is not None)
