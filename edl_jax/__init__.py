"""edl_jax: learn classification losses by evolution on synthetic pairs, and train with them.

`edl_jax.loss` is what other pipelines import; `edl_jax.pretrain.run` and `edl_jax.downstream.run` are
the two stages behind the command line. `import edl_jax` loads no room: each is imported when it is first named.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_ROOMS = ("data", "downstream", "loss", "models", "pretrain", "strategies", "study", "synthetic", "training")
# The rooms are named by `__dir__` alone: a star import would load them all.
__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    """Return a room of the package, imported now, or `UserError`.

    Raises:
      ModuleNotFoundError: the room needs a package of the extra `train`, which is not installed.
    """
    if name in _ROOMS:
        try:
            return importlib.import_module(f"edl_jax.{name}")
        except ModuleNotFoundError as error:
            if (error.name or "edl_jax").split(".")[0] == "edl_jax":
                raise
            hint = (
                f"edl_jax.{name} needs the package {error.name}, which is not installed: pip install 'edl-jax[train]'"
            )
            raise ModuleNotFoundError(hint, name=error.name) from error
    if name == "UserError":
        from edl_jax.core.errors import UserError

        return UserError
    raise AttributeError(f"module 'edl_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted([*_ROOMS, "UserError", "__version__"])
