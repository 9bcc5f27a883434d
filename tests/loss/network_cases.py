"""Every kind of loss network with every output transform, and its forward pass in plain float64 NumPy."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
from loss_cases import CALIBRATION
from loss_reference import ACTIVATIONS
from scipy import interpolate, special

from edl_jax import loss
from edl_jax.loss.networks import kinds as _network

NUM_CLASSES = 5  # of the joint networks
KNOTS = 17
OUTPUTS = {"abs": np.abs, "identity": lambda x: x, "softplus": lambda x: np.logaddexp(x, 0), "square": np.square}
# Whatever transform a kind allows.
NETWORKS = {
    f"{kind} {output}": loss.NetworkConfig(
        kind=kind, hidden=(KNOTS,) if kind == "table" else (6, 5), activation=activation, output=output
    )
    for kind, outputs in {
        "joint": OUTPUTS,
        "ml3": ["identity", "softplus"],
        "monotone": ["identity"],
        "monotone_true_class": ["identity"],
        "pairwise": OUTPUTS,
        "per_class": OUTPUTS,
        "table": ["identity"],
        "true_class": OUTPUTS,
    }.items()
    for output, activation in zip(outputs, itertools.cycle(ACTIVATIONS), strict=False)
}


def is_joint(name):
    return name.startswith("joint")


@functools.cache
def shapes_of(network, num_classes):
    return jax.eval_shape(lambda: _network.init(jax.random.key(0), network, num_classes))


def random_params(seed, network, num_classes=None, scale=1.0):
    """Return parameters of a network, all of them random: float32 arrays."""
    draw = np.random.default_rng(seed).standard_normal
    if network.kind == "table":
        (knots,) = network.hidden
        return {"log_p_min": np.float32(-6.0), "value": np.float32(draw(knots)), "slope": np.float32(draw(knots))}
    # Kernels keep the size of their output, whatever the width.
    return jax.tree.map(
        lambda leaf: np.float32(scale * draw(leaf.shape) / np.sqrt(leaf.shape[0] if leaf.ndim > 1 else 4.0)),
        shapes_of(network, num_classes),
    )


def random_network(seed, name):
    """Return an artifact of a kind, with a calibration that has knots apart and a tail among ordinary predictions."""
    network = NETWORKS[name]
    only = NUM_CLASSES if is_joint(name) else None
    calibration = CALIBRATION
    if only is not None:
        calibration = dataclasses.replace(CALIBRATION, num_classes=(float(only),), scale=(1.5,), shift=(0.3,))
    return loss.Artifact(network, random_params(seed, network, only), calibration, only)


def float64(artifact):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), artifact.params)


def mlp(params, features, activation, output=lambda x: x):
    x = features
    for i in range(len(params)):
        x = x @ params[f"Dense_{i}"]["kernel"] + params[f"Dense_{i}"].get("bias", 0.0)
        x = activation(x) if i < len(params) - 1 else x
    return output(x[..., 0])


def increasing(params, features, both_ways):
    """Return a network of non-negative weights: every unit rises with its input."""

    def unit(x):
        bent_down = np.arange(x.shape[-1]) >= x.shape[-1] // 2 if both_ways else np.zeros(x.shape[-1], bool)
        return np.where(bent_down, -np.logaddexp(0, -x), np.logaddexp(0, x))

    positive = {name: {"kernel": np.abs(layer["kernel"]), "bias": layer["bias"]} for name, layer in params.items()}
    return mlp(positive, features, unit)


def curves(artifact):
    """Return (g1, g0) of ln p of a separable network."""
    network, params = artifact.network, float64(artifact)
    activation, output = ACTIVATIONS[network.activation], OUTPUTS[network.output]

    def h(log_p, which):
        features = np.stack([np.exp(log_p), log_p / 10, np.full_like(log_p, which)], axis=-1)
        return mlp(params, features, activation, output)

    if network.kind == "per_class":
        return lambda x: h(x, 1.0), lambda x: np.exp(x) * h(np.maximum(x, -80), 0.0)
    if network.kind == "ml3":

        def of(p, y):
            return mlp(params, np.stack([p, np.full_like(p, y)], axis=-1), activation, output)

        return lambda x: of(np.exp(x), 1.0), lambda x: of(np.exp(x), 0.0) - of(np.zeros_like(x), 0.0)
    if network.kind == "true_class":
        return lambda x: mlp(params, np.stack([np.exp(x), x / 10], axis=-1), activation, output), np.zeros_like
    if network.kind == "monotone_true_class":
        return lambda x: -increasing(params, np.stack([np.exp(x), x / 10], axis=-1), both_ways=True), np.zeros_like
    if network.kind == "table":
        knots = np.linspace(params["log_p_min"], 0.0, params["value"].size)
        spline = interpolate.CubicHermiteSpline(knots, params["value"], params["slope"])
        return lambda x: spline(np.clip(x, knots[0], 0.0)), np.zeros_like

    def wrong(p):
        return increasing(params["wrong"], p[..., None], both_ways=False)

    return (
        lambda x: -increasing(params["true"], np.stack([np.exp(x), x / 10], axis=-1), both_ways=True),
        lambda x: wrong(np.exp(x)) - wrong(np.zeros_like(x)),
    )


def raw(artifact, log_p, y):
    """Return the loss `[N]` before scale and shift; a class at ln p = -inf is absent."""
    network, c = artifact.network, artifact.calibration
    present = log_p > -np.inf
    start, slope = c.tail_log_p, c.tail_slope
    inside = np.maximum(log_p, start)
    tail = slope * np.where(present, np.minimum(np.where(present, log_p, 0.0) - start, 0.0), 0.0)
    if network.kind == "joint":
        p = np.maximum(np.exp(log_p), y * np.exp(start))
        activation, output = ACTIVATIONS[network.activation], OUTPUTS[network.output]
        return mlp(float64(artifact), np.concatenate([p, y], axis=-1), activation, output) + np.sum(y * tail, axis=-1)
    if network.kind == "pairwise":
        floor = np.maximum(log_p, -80)
        activation, output = ACTIVATIONS[network.activation], OUTPUTS[network.output]
        total = np.zeros(len(log_p))
        for t in range(log_p.shape[-1]):
            true = np.broadcast_to(inside[:, t, None], log_p.shape)
            values = mlp(
                float64(artifact),
                np.stack([np.exp(true), true / 10, np.exp(floor), floor / 10], axis=-1),
                activation,
                output,
            )
            wrong = present & (np.arange(log_p.shape[-1]) != t)
            mean = np.sum(values * wrong, axis=-1) / np.maximum(wrong.sum(axis=-1), 1)
            total += y[:, t] * (mean + tail[:, t])
        return total
    g1, g0 = curves(artifact)
    wrong = np.where(present, g0(np.where(present, log_p, -1.0)), 0.0)
    return np.sum(y * (g1(inside) + tail) + (1 - y) * wrong, axis=-1)


def reference(artifact):
    """Return the loss as a function of float64 logits `[N, C]` (-inf: no such class) and labels `[N, C]`."""

    def values(logits, y):
        c = artifact.calibration
        position = np.log(np.sum(logits > -np.inf, axis=-1))
        scale = np.exp(np.interp(position, np.log(c.num_classes), np.log(c.scale)))
        shift = np.interp(position, np.log(c.num_classes), c.shift)
        return scale * raw(artifact, special.log_softmax(logits, axis=-1), y) + shift

    return values
