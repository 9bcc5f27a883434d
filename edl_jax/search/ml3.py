"""ML3's learned loss (Bechtle et al., arXiv 1906.05374) as EvoMAL compares with it: parameters, tables, artifact.

There is no population: one network of 2,650 parameters, no biases, trained by the local search that EvoMAL's edge
weights are trained by. The loss of a batch is the mean over examples of `sum_c value(params, p_c, y_c)`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.loss import Artifact, Calibration, NetworkConfig
from edl_jax.loss.networks import kinds
from edl_jax.search.tables import EXACT_LOG_P, table_of_slopes

NETWORK = NetworkConfig(kind="ml3", hidden=(50, 50), activation="relu", output="softplus")
"""Architecture of the loss network."""


def init(key: jax.Array) -> Any:
    """Return fresh parameters, float32: normal, of variance 2 / inputs."""
    return kinds.init(key, NETWORK)


def value(params: Any, p: jax.Array, y: jax.Array) -> jax.Array:
    """Return the network's value `[...]` of one class at probabilities and labels `[...]`: what local search tunes."""
    return kinds.ml3.h(NETWORK, params, p, y)


def slopes(params: Any, candidate: None, y: jax.Array, u: jax.Array) -> jax.Array:
    """Return the slopes dg/du `[M]` at label probabilities and log-probabilities `[M]`, for a local search."""
    return jax.jvp(lambda u: value(params, jnp.exp(u), y), (u,), (jnp.ones_like(u),))[1]


def raw_slopes(params: Any, nothing: None, y: jax.Array, f: jax.Array) -> jax.Array:
    """Return the slopes dh/df `[M]` of one network that reads prediction and target: what regression searches with.

    Args:
      params: of one network.
      nothing: as a network needs no more.
      y: `[M]` targets.
      f: `[M]` predictions.
    """
    return jax.jvp(lambda f: value(params, f, y), (f,), (jnp.ones_like(f),))[1]


def tables_of_params(params: Any) -> np.ndarray:
    """Return the tables `[P, 2, K]` float32 of parameters stacked to leaves `[P, ...]`."""
    with jax.enable_x64(True):
        found = _table_slopes(jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params))
    return table_of_slopes(found)


def artifact(params: Any, metadata: Mapping[str, Any] | None = None) -> Artifact:
    """Return the artifact of a learned loss: its scale is as it was learned, not that of cross-entropy."""
    return Artifact(NETWORK, jax.tree.map(np.asarray, params), Calibration(), metadata=metadata or {})


@jax.jit
def _table_slopes(params: Any) -> jax.Array:
    u = jnp.asarray(EXACT_LOG_P)

    def one(params: Any) -> jax.Array:
        rows = (lambda x: kinds.g0(NETWORK, params, x), lambda x: kinds.g1(NETWORK, params, x))
        return jnp.stack([jax.jvp(row, (u,), (jnp.ones_like(u),))[1] for row in rows])

    return jax.vmap(one)(params)
