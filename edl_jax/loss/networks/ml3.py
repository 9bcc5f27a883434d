"""Loss network `ml3`: the network of ML3 for classifiers, one class at a time and without biases.

    l(p, y) = sum_c h([p_c, y_c])        g1(p) = h([p, 1])        g0(p) = h([p, 0]) - h([0, 0])

`h` is an MLP; ML3's has 50 and 50 units, relu, and softplus at its output (Bechtle et al., arXiv 1906.05374, in the
form of EvoMAL's comparison, arXiv 2209.08907). Taking h([0, 0]) away changes no gradient, and lets a class without
mass change nothing. Soft labels are the label-weighted mean of g1 and g0, as for the other networks of one class.
"""

from typing import Any

import jax
import jax.numpy as jnp

from edl_jax.loss.networks.base import ACTIVATIONS, OUTPUTS, NetworkConfig

# He et al. 2015, from a normal law that is not cut off, as PyTorch's `kaiming_normal_`.
_initial = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def init(key: jax.Array, config: NetworkConfig) -> Any:
    """Return fresh parameters, float32."""
    widths = (2, *config.hidden, 1)
    keys = jax.random.split(key, len(widths) - 1)
    shapes = zip(keys, widths[:-1], widths[1:], strict=True)
    return {f"Dense_{i}": {"kernel": _initial(k, (a, b), jnp.float32)} for i, (k, a, b) in enumerate(shapes)}


def h(config: NetworkConfig, params: Any, p: jax.Array, y: jax.Array) -> jax.Array:
    """Return the MLP's output `[...]` at predicted probabilities and label probabilities `[...]`."""
    x = jnp.stack([p, y], axis=-1)
    kernels = [params[f"Dense_{i}"]["kernel"] for i in range(len(params))]
    for kernel in kernels[:-1]:
        x = ACTIVATIONS[config.activation](x @ kernel)
    return OUTPUTS[config.output]((x @ kernels[-1]).squeeze(-1))


def g1(config: NetworkConfig, params: Any, log_p: jax.Array) -> jax.Array:
    """Return the value of a true class, `[...]`, at ln p `[...]` (finite)."""
    return h(config, params, jnp.exp(log_p), jnp.ones_like(log_p))


def g0(config: NetworkConfig, params: Any, log_p: jax.Array) -> jax.Array:
    """Return the value of a wrong class, `[...]`, at ln p `[...]` (may be -inf, where it is 0)."""
    zero = jnp.zeros_like(log_p)
    return h(config, params, jnp.exp(log_p), zero) - h(config, params, zero, zero)
