"""Loss network `monotone`: a per-class network that never pulls the wrong way.

    l(p, y) = sum_c y_c g1(p_c) + (1 - y_c) g0(p_c)        g1 non-increasing, g0 non-decreasing and convex

g1 = -m1(p, ln p) with m1 non-decreasing; g0 = m0(p) - m0(0) with m0 non-decreasing and convex. Weights enter by
their absolute value. m0 has softplus units only, which are convex; half of m1's units are softplus(x), half
-softplus(-x), so that m1 may bend either way (Runje and Shankaranarayana, arXiv 2205.11775). Descent on the
logits of such a loss never lowers the true class's logit nor its margin over the strongest wrong class:
docs/theory.md proves it, and why monotone alone would not be enough.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edl_jax.loss.networks.base import LOG_P_UNIT, NetworkConfig, init_mlp


def init(key: jax.Array, config: NetworkConfig) -> Any:
    """Return fresh parameters, float32: `true` for g1, `wrong` for g0."""
    true_key, wrong_key = jax.random.split(key)
    return {"true": init_mlp(true_key, config, 2), "wrong": init_mlp(wrong_key, config, 1)}


def g1(config: NetworkConfig, params: Any, log_p: jax.Array) -> jax.Array:
    """Return the value of a true class, `[...]`, at ln p `[...]` (finite); falls with p."""
    features = jnp.stack([jnp.exp(log_p), log_p / LOG_P_UNIT], axis=-1)
    return -increasing(params["true"], features, both_ways=True)


def g0(config: NetworkConfig, params: Any, log_p: jax.Array) -> jax.Array:
    """Return the value of a wrong class, `[...]`, at ln p `[...]` (may be -inf, where it is 0); rises with p."""
    p = jnp.exp(log_p)[..., None]
    return increasing(params["wrong"], p) - increasing(params["wrong"], jnp.zeros((1,), p.dtype))


def increasing(params: Any, x: jax.Array, *, both_ways: bool = False) -> jax.Array:
    """Return `[...]`, non-decreasing in every feature of `[..., F]`, and convex unless `both_ways`."""
    layers = [params[f"Dense_{i}"] for i in range(len(params))]
    for layer in layers[:-1]:
        x = x @ jnp.abs(layer["kernel"]) + jnp.broadcast_to(layer["bias"], (*x.shape[:-1], layer["bias"].shape[0]))
        if both_ways:
            half = x.shape[-1] // 2
            x = jnp.concatenate([nn.softplus(x[..., :half]), -nn.softplus(-x[..., half:])], axis=-1)
        else:
            x = nn.softplus(x)
    return (x @ jnp.abs(layers[-1]["kernel"])).squeeze(-1) + layers[-1]["bias"][0]
