"""JAX's settings while a command runs: those that its numbers depend on are its own, all others the user's."""

import contextlib
from collections.abc import Iterator

import jax

from edl_jax.core.errors import DivergedError, UserError, one_line


@contextlib.contextmanager
def fixed() -> Iterator[None]:
    """Fix the settings of JAX that decide the numbers of a run, in this thread; as a decorator, for each call.

    Numbers are float32 and int32, keys Threefry's, and programs are compiled, so that a run is the same, and goes on
    the same, under JAX_ENABLE_X64, JAX_DEFAULT_PRNG_IMPL, JAX_THREEFRY_PARTITIONABLE, JAX_NUMPY_DTYPE_PROMOTION,
    JAX_DISABLE_JIT and JAX_TRANSFER_GUARD. What looks for faults, such as JAX_DEBUG_NANS, stays as the user has it, and
    so do the platform, the device and the precision of matrix products.

    Raises:
      UserError: JAX has no device, as on a machine without the platform that JAX_PLATFORMS names.
      DivergedError: JAX_DEBUG_NANS or JAX_DEBUG_INFS met a number that is not finite.
    """
    require_device()
    with (
        jax.enable_x64(False),
        jax.default_prng_impl("threefry2x32"),
        jax.threefry_partitionable(True),
        jax.numpy_dtype_promotion("standard"),
        jax.disable_jit(False),
        jax.transfer_guard("allow"),
    ):
        try:
            yield
        except Exception as error:
            if not _is_of_debugging(error):
                raise
            what = ", ".join(str(arg).partition(". ")[0] for arg in error.args)
            raise DivergedError(
                f"a program gave a number that is not finite ({what}), an error by JAX_DEBUG_NANS or JAX_DEBUG_INFS: "
                "unset them to go on without this check"
            ) from error


def require_device() -> None:
    """Raise unless JAX has a device.

    Raises:
      UserError: it has none; the message says which platform was asked for, and which are there.
    """
    default = jax.config.jax_default_device  # type: ignore[attr-defined]
    try:
        jax.devices(default if isinstance(default, str) else None)
    except (RuntimeError, AssertionError) as error:  # an assertion where the platform's package is not installed
        asked = jax.config.jax_platforms  # type: ignore[attr-defined]
        if not asked:
            raise UserError(f"JAX finds no device: {one_line(str(error))}") from error
        raise UserError(
            f"platform {asked!r}, asked for by JAX_PLATFORMS, is not there, expected one of {', '.join(_platforms())}: "
            "unset JAX_PLATFORMS, or set JAX_PLATFORMS=cpu"
        ) from error


def _platforms() -> list[str]:
    """Return the platforms that JAX finds by itself, when it has not found those asked for."""
    from jax.extend import backend

    asked = jax.config.jax_platforms  # type: ignore[attr-defined]
    jax.config.update("jax_platforms", None)
    found = {"cpu"}  # always there
    try:
        with contextlib.suppress(RuntimeError):
            found |= {device.platform for device in jax.devices()}
        return sorted(found)
    finally:
        backend.clear_backends()
        jax.config.update("jax_platforms", asked)


def _is_of_debugging(error: Exception) -> bool:
    """Return whether JAX raised this because of debug_nans or debug_infs."""
    if not (jax.config.jax_debug_nans or jax.config.jax_debug_infs):  # type: ignore[attr-defined]
        return False
    # What a program compiled ahead of time raises is internal to JAX.
    return isinstance(error, FloatingPointError) or type(error).__name__ == "InternalFloatingPointError"
