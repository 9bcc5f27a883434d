"""JAX's persistent compilation cache, kept for the command line: a program that was compiled once is read back."""

import hashlib
import logging
import os
import platform
from pathlib import Path

from edl_jax.core.errors import UserError, local_path

_LOGGER = logging.getLogger("edl_jax")
# Programs that take less to compile are not worth a file.
_LEAST_SECONDS = 0.05


def enable() -> None:
    """Keep compiled programs in the user's cache directory, unless the user has settled where JAX keeps them.

    JAX_COMPILATION_CACHE_DIR and JAX_ENABLE_COMPILATION_CACHE are left as they are. A directory that cannot be written
    costs nothing but the time of compiling again, and a line where it is the user's choice.
    """
    import jax
    import platformdirs

    chosen = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if chosen and "://" not in chosen and not _is_writable(Path(chosen)):
        _LOGGER.warning("JAX_COMPILATION_CACHE_DIR is %s, which cannot be written: no compiled program is kept", chosen)
        jax.config.update("jax_enable_compilation_cache", False)  # else JAX would warn in lines of its own
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or chosen:
        return
    try:
        folder = local_path(platformdirs.user_cache_dir("edl_jax", appauthor=False)) / "jax" / _machine()
    except (RuntimeError, UserError):  # no home directory
        return
    if not _is_writable(folder):
        return
    # No jax_compilation_cache_max_size: with it, one entry whose time is missing, as after a kill, ends all writing.
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)


def _is_writable(folder: Path) -> bool:
    """Return whether files can be made in a folder, which is made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _machine() -> str:
    """Return a name for the processor: programs compiled for one must not be read by another over a shared home."""
    facts = [platform.machine(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    facts += [line for line in lines if line.startswith(("model name", "flags", "Features"))][:2]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]
