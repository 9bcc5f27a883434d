"""Loss networks that are a known function exactly, and the mixtures that the tests use."""

import numpy as np

from edl_jax import loss
from edl_jax.synthetic import MixtureConfig
from edl_jax.synthetic.mixture import COMPONENTS


def only(**weights):
    """Return a mixture with these weights and no other component; other settings pass through."""
    return MixtureConfig(**{**dict.fromkeys(COMPONENTS, 0.0), **weights})


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
