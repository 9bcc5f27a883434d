"""How a program is compiled that runs once or has little work."""

from typing import Any

import jax


def quick_options() -> dict[str, Any]:
    """Return XLA's options for such a program: a quarter of the compilation, code several times slower.

    None on accelerators. Results differ from those of other options by rounding.
    """
    if jax.default_backend() != "cpu":
        return {}
    return {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
