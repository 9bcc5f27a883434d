"""Where a run was made: versions, device, git revision, command line, wall time."""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax

from edl_jax.core.files import read_json

# Of those that a run leaves to the user (`edl_jax.core.jax_settings`).
_SETTINGS = ("jax_default_matmul_precision", "jax_disable_most_optimizations", "jax_random_seed_offset")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "evosax", "orbax-checkpoint", "numpy", "tensorflow-datasets")


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for name in ("edl-jax", *_PACKAGES):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def describe(path: Path) -> dict[str, Any]:
    """Return the content of environment.json for a session that starts now in the run directory `path`."""
    device = jax.devices()[0]
    earlier = 0.0
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        earlier = max(float(read_json(path / "environment.json")["wall_seconds"]), 0.0)
    return {
        "versions": versions(),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "jax_settings": _changed_settings(),
        "cpu_count": os.cpu_count(),
        "git_revision": _git_revision(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "earlier_wall_seconds": earlier,
        "finished": False,
    }


def _changed_settings() -> dict[str, str]:
    """Return the settings of JAX and XLA that the user has changed and that may change a result's digits."""
    values = jax.config.values  # type: ignore[attr-defined]
    found = {name: values.get(name) for name in _SETTINGS}
    found["XLA_FLAGS"] = os.environ.get("XLA_FLAGS")
    return {name: str(value) for name, value in found.items() if value}


def _git_revision() -> str | None:
    """Return the revision of the checkout that this package runs from, if it is one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    return None
