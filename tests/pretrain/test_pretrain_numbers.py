"""What the numbers of a run of stage 1 mean, from the file alone and in NumPy."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from pretrain_cases import read
from safetensors import safe_open

from edl_jax import loss


class Reference:
    """The loss in an artifact, read and computed without the package."""

    def __init__(self, path):
        with safe_open(path, framework="numpy") as file:
            self.tensors = {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}  # noqa: SIM118
            header = json.loads(file.metadata()["loss"])
        self.calibration, self.config = header["calibration"], header["metadata"]["config"]
        assert (header["network"]["kind"], header["network"]["activation"]) == ("true_class", "tanh")

    def h(self, log_p):
        x = np.stack([np.exp(log_p), log_p / 10.0], axis=-1)
        for layer in range(len(self.tensors) // 2):
            if layer:
                x = np.tanh(x)
            x = x @ self.tensors[f"params/Dense_{layer}/kernel"] + self.tensors[f"params/Dense_{layer}/bias"]
        return x[..., 0]

    def __call__(self, logits, labels):
        c = self.calibration
        log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        at = np.arange(len(labels)), labels
        raw = self.h(np.maximum(log_p[at], c["tail_log_p"]))
        raw += c["tail_slope"] * np.minimum(log_p[at] - c["tail_log_p"], 0.0)
        return c["scale"][0] * raw + c["shift"][0]


def draw(rng, mixture, labels, num_classes):
    """Draw a prediction per label as edl_jax/synthetic/mixture.py says, log-probabilities."""
    k, f, n = mixture["confidence"], mixture["flatness"], num_classes
    table = {
        "uniform": (1.0, 1.0, 1.0),
        "confident_right": (k, 1 / (n - 1), 1 / (n - 1)),
        "confident_wrong": (1.0, k, 1 / (n - 2)),
        "boundary": (k, k, 1 / (n - 2)),
        "near_uniform": (f, f, f),
        "log_uniform": (1.0, mixture["spread"], mixture["spread"]),
    }
    weights = np.array([mixture[name] for name in table])
    rows = np.arange(len(labels))
    component = rng.choice(len(table), size=len(labels), p=weights / weights.sum())
    rival = (labels + rng.integers(1, n, len(labels))) % n
    true, against, other = np.array(list(table.values()))[component].T
    concentration = np.repeat(other[:, None], n, axis=1)
    concentration[rows, labels], concentration[rows, rival] = true, against
    # ln Gamma(a) = ln Gamma(a + 1) + ln(U) / a keeps tiny ones.
    log_gamma = np.log(rng.gamma(concentration + 1.0)) + np.log(rng.uniform(size=concentration.shape)) / concentration
    log_p = log_gamma - np.logaddexp.reduce(log_gamma, axis=-1, keepdims=True)
    level = mixture["log_p_min"] * rng.uniform(size=len(labels))
    log_gamma[rows, labels] = -np.inf
    set_level = log_gamma - np.logaddexp.reduce(log_gamma, axis=-1, keepdims=True) + np.log(-np.expm1(level))[:, None]
    set_level[rows, labels] = level
    return np.where((component == list(table).index("log_uniform"))[:, None], set_level, log_p)


@pytest.fixture(scope="module")
def fresh(debug_run):
    """The artifact's loss in NumPy, and 20,000 pairs that the run has not seen."""
    reference = Reference(debug_run[0] / "loss.safetensors")
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 10, 20_000)
    return reference, labels, *(draw(rng, reference.config["mixture"], labels, 10) for _ in range(2))


def test_ranking_accuracy_and_fitness_hold_on_fresh_pairs(debug_run, fresh):
    reference, labels, a, b = fresh
    result = read(debug_run[0] / "result.json")
    at = np.arange(len(labels)), labels
    loss_a, loss_b = reference(a, labels), reference(b, labels)
    order = np.sign(a[at] - b[at])  # severity `error` is 1 - p_t
    accuracy = np.mean(np.sign(loss_b - loss_a) == order)
    spread = np.std(np.concatenate([loss_a, loss_b]))
    fitness = np.mean(np.logaddexp(0.0, -order * (loss_b - loss_a) / spread))
    # Both are means over some 20,000 pairs: their standard errors are about 0.002 and 0.004.
    assert accuracy == pytest.approx(result["ranking_accuracy"], abs=0.008)
    assert fitness == pytest.approx(result["fitness"], abs=0.015)


def test_loaded_loss_is_the_reference(debug_run, fresh):
    reference, labels, a, _ = fresh
    function = loss.load(debug_run[0] / "loss.safetensors")
    found = function(jnp.asarray(a[:2000], jnp.float32), jnp.asarray(labels[:2000], jnp.int32))
    np.testing.assert_allclose(found, reference(a[:2000], labels[:2000]), rtol=2e-4, atol=2e-4)


def test_drop_in_scale_is_cross_entropys_within_two_percent(debug_run, fresh):
    reference, labels, a, b = fresh
    logits, labels = np.concatenate([a, b]), np.concatenate([labels, labels])
    logits = np.maximum(logits, -60.0)  # logits: any shift and any finite stand-in for no mass will do
    step, gradient = 1e-4, np.empty_like(logits)
    for column in range(10):
        ahead, behind = logits.copy(), logits.copy()
        ahead[:, column] += step
        behind[:, column] -= step
        gradient[:, column] = (reference(ahead, labels) - reference(behind, labels)) / (2 * step)
    cross_entropy = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)) - np.eye(10)[labels]
    ratio = np.linalg.norm(gradient, axis=1).mean() / np.linalg.norm(cross_entropy, axis=1).mean()
    assert ratio == pytest.approx(1.0, abs=0.02)
    assert read(debug_run[0] / "result.json")["gradient_norm_ratio"] == pytest.approx(1.0, abs=0.02)
    assert reference(logits, labels).min() == pytest.approx(0.0, abs=0.05)
