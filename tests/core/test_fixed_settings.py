"""What a run fixes of JAX's settings, what it leaves, and what it makes of their errors."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax.core import environment, jax_settings
from edl_jax.core.errors import DivergedError
from edl_jax.loss.threads import Threads
from edl_jax.training.epoch import epoch_order

USERS = {
    "enable_x64": (True, False),
    "default_prng_impl": ("rbg", "threefry2x32"),
    "threefry_partitionable": (False, True),
    "numpy_dtype_promotion": ("strict", "standard"),
    "disable_jit": (True, False),
    "transfer_guard_host_to_device": ("disallow", "allow"),
    "transfer_guard_device_to_host": ("disallow", "allow"),
    # The user's in a run as well.
    "debug_nans": (True, True),
    "default_matmul_precision": ("float32", "float32"),
}


def settings():
    return {name: getattr(jax.config, f"jax_{name}") for name in USERS}


@pytest.fixture
def users_jax():
    """A user's settings, nearly all of them other than JAX's."""
    with jax.enable_x64(True), jax.default_prng_impl("rbg"), jax.threefry_partitionable(False):  # noqa: SIM117
        with jax.numpy_dtype_promotion("strict"), jax.disable_jit(), jax.transfer_guard("disallow"):
            with jax.debug_nans(True), jax.default_matmul_precision("float32"):
                yield


@pytest.mark.usefixtures("users_jax")
def test_a_run_and_its_threads_have_their_own_settings_and_the_user_has_theirs_back():
    @jax_settings.fixed()
    def run():
        with Threads(1) as threads:
            return settings(), threads.submit(settings).result()

    before = settings()
    assert before == {name: users for name, (users, _) in USERS.items()}
    for found in (*run(), *run()):
        assert found == {name: fixed for name, (_, fixed) in USERS.items()}
    assert settings() == before


@pytest.mark.parametrize("ahead", [False, True])
def test_a_nan_that_debugging_finds_is_one_line(ahead):
    program = jax.jit(jnp.log)
    if ahead:
        program = program.lower(np.float32(-1.0)).compile()
    with jax.debug_nans(True), pytest.raises(DivergedError, match=re.escape("not finite (")) as caught:
        jax_settings.fixed()(program)(np.float32(-1.0))
    assert "\n" not in str(caught.value)
    jax_settings.fixed()(program)(np.float32(-1.0))  # a number as any other where nobody looks for it


def test_an_error_that_is_not_of_debugging_is_as_it_was():
    with jax.debug_nans(True), jax.debug_infs(True), pytest.raises(ZeroDivisionError), jax_settings.fixed():
        raise ZeroDivisionError


@jax_settings.fixed()
def test_a_run_records_the_users_settings_that_change_digits(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    with jax.default_matmul_precision("highest"):
        found = environment.describe(tmp_path)["jax_settings"]
    assert found.pop("jax_disable_most_optimizations", "True") == "True"  # of the tests
    assert found == {"jax_default_matmul_precision": "highest", "XLA_FLAGS": "--xla_cpu_enable_fast_math=true"}


def test_the_order_of_an_epoch_is_int32_for_users_of_64_bits():
    with jax.enable_x64(True):
        order = jax.eval_shape(lambda key: epoch_order(key, jnp.int32(0), 9, 4), jax.random.key(0))
    assert order.dtype == jnp.int32
