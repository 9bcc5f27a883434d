"""How programs with convolutions are compiled on a CPU.

jaxlib 0.10 gives the gradients of a convolution's filter to the library YNNPACK, as convolutions whose windows are as
large as the image: several times slower than XLA's own kernel, Eigen's. So convolutions are taken from that library;
matrix products stay with it and reductions come to it (`benchmarks/downstream_vs_torch.py --tries`).
"""

import functools
import os

import jax

_OPTION = "xla_cpu_experimental_ynn_fusion_type"
_KEPT = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"


def compile_lowered(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compile a lowered program with `options()`."""
    return lowered.compile(compiler_options=options())


@functools.cache
def options() -> dict[str, str | bool]:
    """Return XLA's options for a training program on the default backend.

    None on accelerators, with a jaxlib that does not know the option, or when XLA_FLAGS sets it.
    """
    if jax.default_backend() != "cpu" or _OPTION in os.environ.get("XLA_FLAGS", ""):
        return {}
    chosen: dict[str, str | bool] = {_OPTION: _KEPT}

    def knows_options() -> None:
        return None

    try:
        jax.jit(knows_options).lower().compile(compiler_options=chosen)
    except (jax.errors.JaxRuntimeError, ValueError):
        return {}
    return chosen
