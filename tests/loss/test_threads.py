"""Threads that compile: under the caller's settings, and no obstacle to an interrupt."""

import threading

import jax
import pytest

from edl_jax.loss.threads import Threads


def test_functions_run_under_the_settings_of_the_caller():
    def settings():
        names = ("default_device", "default_matmul_precision", "enable_x64", "numpy_dtype_promotion")
        return [getattr(jax.config, f"jax_{name}") for name in names]

    device = jax.devices()[0]
    with (
        jax.default_device(device),
        jax.default_matmul_precision("float32"),
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("strict"),
        Threads(1) as threads,
    ):
        expected = settings()
        assert expected[0] is device
        assert threads.submit(settings).result() == expected
    with Threads(1) as threads:
        assert threads.submit(settings).result() == settings() != expected


def test_an_interrupt_waits_for_nothing_and_cancels_what_has_not_begun():
    begun, end, futures = threading.Event(), threading.Event(), []

    def interrupted():
        with Threads(1) as threads:
            futures.extend((threads.submit(lambda: begun.set() or end.wait(60)), threads.submit(print)))
            begun.wait()
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        running, waiting = futures
        assert waiting.cancelled()
        assert not running.done()
    finally:
        end.set()
