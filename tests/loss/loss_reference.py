"""The losses in plain float64 NumPy, written from their formulas for the tests.

Each takes logits `[N, C]` (finite) and label probabilities `[N, C]` and returns values `[N]`.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import safe_open
from scipy import optimize, special

Reference = Callable[[np.ndarray, np.ndarray], np.ndarray]


def brier(logits, y):
    return np.sum((special.softmax(logits, axis=-1) - y) ** 2, axis=-1)


def cross_entropy(logits, y):
    return -np.sum(y * special.log_softmax(logits, axis=-1), axis=-1)


def label_smoothing(logits, y, alpha=0.1):
    return cross_entropy(logits, (1 - alpha) * y + alpha / logits.shape[-1])


def weighted(y, values):
    """Return the label-weighted mean of values `[N, C]`, one for each class as the true one."""
    return np.sum(y * values, axis=-1)


def log_not_p(logits):
    """Return ln(1 - p) from the logits of the other classes."""
    total = special.logsumexp(logits, axis=-1, keepdims=True)
    others = [special.logsumexp(np.delete(logits, c, axis=-1), axis=-1) for c in range(logits.shape[-1])]
    return np.stack(others, axis=-1) - total


def focal(logits, y, gamma=2.0):
    p = special.softmax(logits, axis=-1)
    return weighted(y, -((1 - p) ** gamma) * special.log_softmax(logits, axis=-1))


def dual_focal(logits, y, gamma=5.0):
    p = special.softmax(logits, axis=-1)
    lower = np.where(p[:, None, :] < p[:, :, None], p[:, None, :], 0).max(axis=-1)
    return weighted(y, -((1 - p + lower) ** gamma) * special.log_softmax(logits, axis=-1))


def poly1(logits, y, epsilon=2.0):
    return cross_entropy(logits, y) + epsilon * weighted(y, 1 - special.softmax(logits, axis=-1))


def mae(logits, y):
    return np.sum(np.abs(special.softmax(logits, axis=-1) - y), axis=-1) / 2


def gce(logits, y, q=0.7, k=None):
    p = special.softmax(logits, axis=-1)
    return weighted(y, (1 - np.where(p <= (k or 0), k or 0, p) ** q) / q)


def reverse_cross_entropy(logits, y, clip=1e-4):
    p = special.softmax(logits, axis=-1)
    identity = np.eye(p.shape[-1])
    return weighted(y, -p @ np.log(np.maximum(identity, clip)))


def sce(logits, y, alpha=0.1, beta=1.0, clip=1e-4):
    return alpha * cross_entropy(logits, y) + beta * reverse_cross_entropy(logits, y, clip)


def nce(logits, y):
    log_p = special.log_softmax(logits, axis=-1)
    return weighted(y, log_p) / np.sum(log_p, axis=-1)


def nce_rce(logits, y, alpha=1.0, beta=1.0, clip=1e-4):
    return alpha * nce(logits, y) + beta * reverse_cross_entropy(logits, y, clip)


def taylor_cross_entropy(logits, y, order=2):
    p = special.softmax(logits, axis=-1)
    return weighted(y, sum((1 - p) ** j / j for j in range(1, order + 1)))


def ace(logits, y, phi0=1.0, phi1=1.1):
    return weighted(y, phi0 * np.abs(np.log(phi1) + special.log_softmax(logits, axis=-1)))


def sparse_lsr(logits, y, alpha=0.1):
    log_p, n = special.log_softmax(logits, axis=-1), logits.shape[-1]
    share = log_not_p(logits) - np.log(n - 1)
    return weighted(y, -(1 - alpha + alpha / n) * log_p - alpha * (n - 1) / n * share)


def baikal(logits, y):
    log_p = special.log_softmax(logits, axis=-1)
    inverse = np.where(log_p < np.log(1e-7), 1e7 * (1 + np.log(1e-7) - log_p), np.exp(-log_p))
    return -np.mean(log_p - y * inverse, axis=-1)


def squentropy(logits, y):
    squares = np.sum(logits**2, axis=-1, keepdims=True) - logits**2
    return cross_entropy(logits, y) + weighted(y, squares) / (logits.shape[-1] - 1)


def logit_norm(logits, y, tau=0.04):
    norm = np.linalg.norm(logits, axis=-1, keepdims=True) + 1e-7
    return cross_entropy(logits / (tau * norm), y)


def log_t(x, t):
    return np.log(x) if t == 1 else (x ** (1 - t) - 1) / (1 - t)


def tempered_softmax(logits, t2):
    """Return exp_t2(z - lambda), lambda bracketed and bisected row by row."""

    def q(z, normaliser):
        x = z - normaliser
        return np.exp(x) if t2 == 1 else (1 + (1 - t2) * x) ** (1 / (1 - t2))

    def row(z):
        top, widest = z.max(), -log_t(1 / z.size, t2)  # the classes are equal at the widest
        highest = top + widest * (1 + 1e-9) + 1e-9
        found = optimize.brentq(lambda x: q(z, x).sum() - 1, top - 1e-9, highest, xtol=1e-14, rtol=1e-15)
        return q(z, found)

    return np.stack([row(z) for z in logits])


def bi_tempered(logits, y, t1=0.8, t2=1.2):
    q = tempered_softmax(logits, t2)
    entropy = np.where(y > 0, y * log_t(np.where(y > 0, y, 1), t1), 0)
    return np.sum(entropy - y * log_t(q, t1) - (y ** (2 - t1) - q ** (2 - t1)) / (2 - t1), axis=-1)


def margins(logits):
    """Return z_j - z_c `[N, c, j]`, NaN for j = c."""
    pairs = logits[:, None, :] - logits[:, :, None]
    return np.where(np.eye(logits.shape[-1]), np.nan, pairs)


def crammer_singer(logits, y, margin=1.0):
    return weighted(y, np.maximum(0, margin + np.nanmax(margins(logits), axis=-1)))


def weston_watkins(logits, y, margin=1.0):
    return weighted(y, np.nansum(np.maximum(0, margin + margins(logits)), axis=-1))


def zero_one(logits, y, steepness=5.0):
    return weighted(y, np.exp(log_not_p(steepness * logits)))


def additive_margin(logits, y, scale=30.0, margin=0.35):
    classes = np.eye(logits.shape[-1])
    values = [cross_entropy(scale * (logits - margin * c), np.tile(c, (len(logits), 1))) for c in classes]
    return weighted(y, np.stack(values, axis=-1))


def barron(logits, y, alpha=1.0, scale=1.0):
    square = ((special.softmax(logits, axis=-1) - y) / scale) ** 2
    if alpha == 2:
        return np.sum(square / 2, axis=-1)
    if alpha == 0:
        return np.sum(np.log(square / 2 + 1), axis=-1)
    if alpha == -np.inf:
        return np.sum(1 - np.exp(-square / 2), axis=-1)
    width = abs(alpha - 2)
    return np.sum(width / alpha * ((square / width + 1) ** (alpha / 2) - 1), axis=-1)


def taylor_glo(logits, y, theta=(0.0, 1.0, 0.0, 0.0, 0.0, 1.0, -1.0, 0.0)):
    s, d = y - theta[0], special.softmax(logits, axis=-1) - theta[1]
    order = round(np.sqrt(2 * (len(theta) - 2) + 0.25) - 0.5)
    powers = [(i, j) for i in range(order) for j in range(1, order + 1 - i)]
    factorials = special.factorial(np.arange(order + 1))
    terms = [c * s**i * d**j / (factorials[i] * factorials[j]) for c, (i, j) in zip(theta[2:], powers, strict=True)]
    return -np.mean(sum(terms), axis=-1)


def logit_adjustment(logits, y, class_counts=None, tau=1.0):
    frequencies = np.ones(logits.shape[-1]) if class_counts is None else np.asarray(class_counts) / np.sum(class_counts)
    return cross_entropy(logits + tau * np.log(frequencies), y)


def balanced_softmax(logits, y, class_counts=None):
    counts = np.ones(logits.shape[-1]) if class_counts is None else np.asarray(class_counts)
    odds = counts * np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weighted(y, -np.log(odds / odds.sum(axis=-1, keepdims=True)))


def asymmetric(logits, y, gamma_pos=1.0, gamma_neg=4.0, clip=0.05):
    p, not_p = (special.expit(sign * (logits[:, 1] - logits[:, 0])) for sign in (1, -1))
    shifted = np.minimum(not_p + clip, 1)
    absent = np.maximum(p - clip, 0) ** gamma_neg * np.log(shifted)
    return -y[:, 1] * not_p**gamma_pos * np.log(p) - y[:, 0] * absent


def negative(values, y, largest):
    """Return a normalised negative loss: `values` `[N, C]` of the active loss, one for each class as the true one."""
    flipped = largest - values
    return 1 - weighted(y, flipped) / np.sum(flipped, axis=-1)


def anl_ce(logits, y, alpha=5.0, beta=5.0, min_prob=1e-7):
    values = -np.log(np.maximum(special.softmax(logits, axis=-1), min_prob))
    return alpha * nce(logits, y) + beta * negative(values, y, -np.log(min_prob))


def focal_of_every_class(log_p, not_p, gamma):
    return -(not_p**gamma) * log_p


def anl_fl(logits, y, alpha=5.0, beta=5.0, gamma=0.5, min_prob=1e-7):
    p = np.maximum(special.softmax(logits, axis=-1), min_prob)
    values = focal_of_every_class(np.log(p), np.minimum(np.exp(log_not_p(logits)), 1 - min_prob), gamma)
    return alpha * nfl(logits, y, gamma) + beta * negative(values, y, -((1 - min_prob) ** gamma) * np.log(min_prob))


def nfl(logits, y, gamma):
    values = focal_of_every_class(special.log_softmax(logits, axis=-1), np.exp(log_not_p(logits)), gamma)
    return weighted(y, values) / np.sum(values, axis=-1)


def amse(logits, y, a=30.0):
    return np.mean((special.softmax(logits, axis=-1) - a * y) ** 2, axis=-1)


def jal_ce(logits, y, alpha=1.0, beta=1.0, a=30.0):
    return alpha * nce(logits, y) + beta * amse(logits, y, a)


def jal_fl(logits, y, alpha=1.0, beta=1.0, gamma=0.5, a=30.0):
    return alpha * nfl(logits, y, gamma) + beta * amse(logits, y, a)


CLASSIC: dict[str, Reference] = {
    function.__name__: function
    for function in (
        ace,
        additive_margin,
        amse,
        anl_ce,
        anl_fl,
        asymmetric,
        baikal,
        balanced_softmax,
        barron,
        bi_tempered,
        brier,
        crammer_singer,
        cross_entropy,
        dual_focal,
        focal,
        gce,
        jal_ce,
        jal_fl,
        label_smoothing,
        logit_adjustment,
        logit_norm,
        mae,
        nce,
        nce_rce,
        poly1,
        reverse_cross_entropy,
        sce,
        sparse_lsr,
        squentropy,
        taylor_cross_entropy,
        taylor_glo,
        weston_watkins,
        zero_one,
    )
}

ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * special.expit(x),
    "softplus": lambda x: np.logaddexp(x, 0),
    "tanh": np.tanh,
}


def learned(path: Path) -> Reference:
    """Return the loss stored in a file, read from its tensors and metadata alone."""
    with safe_open(path, framework="numpy") as file:
        stored = json.loads(file.metadata()["loss"])
        tensors = {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}  # noqa: SIM118
    activation = ACTIVATIONS[stored["network"]["activation"]]
    depth = len(stored["network"]["hidden"])
    calibration = stored["calibration"]
    start, slope = calibration["tail_log_p"], calibration["tail_slope"]

    def mlp(log_p, which):
        x = np.stack([np.exp(log_p), log_p / 10, np.full_like(log_p, which)], axis=-1)
        for layer in range(depth + 1):
            x = x @ tensors[f"params/Dense_{layer}/kernel"] + tensors[f"params/Dense_{layer}/bias"]
            x = activation(x) if layer < depth else x
        return x[..., 0]

    def loss(logits, y):
        log_p = special.log_softmax(logits, axis=-1)
        true = mlp(np.maximum(log_p, start), 1.0) + slope * np.minimum(log_p - start, 0)
        wrong = np.exp(log_p) * mlp(np.maximum(log_p, -80), 0.0)
        knots, position = np.log(calibration["num_classes"]), np.log(logits.shape[-1])
        scale = np.exp(np.interp(position, knots, np.log(calibration["scale"])))
        shift = np.interp(position, knots, calibration["shift"])
        return scale * np.sum(y * true + (1 - y) * wrong, axis=-1) + shift

    return loss
