"""The losses in plain float64 NumPy, written from their formulas for the tests.

Each takes logits `[N, C]` (finite) and label probabilities `[N, C]` and returns values `[N]`.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import safe_open
from scipy import special

Reference = Callable[[np.ndarray, np.ndarray], np.ndarray]


def brier(logits, y):
    return np.sum((special.softmax(logits, axis=-1) - y) ** 2, axis=-1)


def cross_entropy(logits, y):
    return -np.sum(y * special.log_softmax(logits, axis=-1), axis=-1)


def label_smoothing(logits, y, alpha=0.1):
    return cross_entropy(logits, (1 - alpha) * y + alpha / logits.shape[-1])


CLASSIC: dict[str, Reference] = {
    "brier": brier,
    "cross_entropy": cross_entropy,
    "label_smoothing": label_smoothing,
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
