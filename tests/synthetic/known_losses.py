"""Loss networks that are a known function exactly, and the mixtures that the tests use."""

from pathlib import Path

import jax
import numpy as np

from edl_jax import loss
from edl_jax.core.config import override
from edl_jax.loss.networks import kinds as _network
from edl_jax.synthetic import MixtureConfig
from edl_jax.synthetic.mixture import COMPONENTS

# An evolved network that stays as it is, whatever the package ships.
TRAINED = loss.load_artifact(Path(__file__).parents[1] / "loss" / "data" / "format_v1.safetensors")
# Quantiles of ln p_t for `designed` where a test gives none: few, and unevenly spaced.
QUANTILES = (-12.0, -7.0, -6.5, -2.0, -1.0, -0.25, 0.0)


def only(**settings):
    """Return a mixture with these weights and no other component; other settings pass through."""
    if settings.get("designed"):
        settings.setdefault("designed_log_p", QUANTILES)
    return MixtureConfig(**{**dict.fromkeys(COMPONENTS, 0.0), **settings})


def mixture_of(artifact):
    """Return the mixture that an artifact was trained on, from its metadata."""
    return override(MixtureConfig(), artifact.metadata["config"]["mixture"])


def one_unit(kernel, bias, out):
    """Return (network, params) of `out * relu(kernel . [p, ln p / 10, which] + bias)`."""
    params = {
        "Dense_0": {"kernel": np.asarray(kernel, np.float32)[:, None], "bias": np.asarray([bias], np.float32)},
        "Dense_1": {"kernel": np.asarray([[out]], np.float32), "bias": np.zeros(1, np.float32)},
    }
    return loss.NetworkConfig(hidden=(1,), activation="relu"), params


def cross_entropy_network(sign=1.0, start=0.0):
    """Return the network of max(-ln p_t - start, 0): wrong classes fall below the kink at any ln p > -80."""
    return one_unit([0.0, -1.0, 8.0], -8.0 - start / 10.0, 10.0 * sign)


def error_network():
    """Return the network of 1 - p_t."""
    return one_unit([-1.0, 0.0, 1.0], 0.0, 1.0)


def uncalibrated(network, params, **calibration):
    return loss.Artifact(network, params, loss.Calibration(**calibration))


def random_params(seed, network, num_classes=10):
    """Return random parameters of a loss network, float32, drawn without JAX: nothing to compile."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: _network.init(jax.random.key(0), network, num_classes))
    return jax.tree.map(
        lambda leaf: np.float32(rng.standard_normal(leaf.shape) / np.sqrt(leaf.shape[0] if leaf.ndim > 1 else 4.0)),
        shapes,
    )
