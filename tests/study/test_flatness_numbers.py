"""The numbers of `flatness`, against dense linear algebra on a tiny network."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from edl_jax import loss
from edl_jax.downstream import DownstreamConfig
from edl_jax.study.flatness import ledger
from edl_jax.study.flatness.config import FlatnessConfig
from edl_jax.study.flatness.directions import filter_normalised
from edl_jax.study.flatness.lanczos import State
from edl_jax.study.flatness.measure import measure
from edl_jax.study.flatness.network import Surface, Trained, scale_of

CONFIG = FlatnessConfig(
    examples=24, batch_size=8, eigenvalues=3, iterations=40, tolerance=1e-4, probes=60, directions=2, points=5, grid=3
)


class Tiny(nn.Module):
    """Two convolutions, the first with a normalisation behind it."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(2, (2, 2), strides=(2, 2), use_bias=False, name="before")(x)
        x = nn.tanh(nn.BatchNorm(use_running_average=True, epsilon=1e-9, name="norm")(x))
        return nn.Dense(3, name="last")(x.reshape(len(x), -1))


def make(scale=1.0):
    """Return a network of 31 weights whose first filters are `scale` times as large, `[2]`, and their statistics."""
    rng = np.random.default_rng(0)
    scale = np.broadcast_to(np.asarray(scale, np.float32), (2,))
    images = rng.integers(0, 255, (24, 4, 4, 1), np.uint8)
    labels = rng.integers(0, 3, 24).astype(np.int32)
    model = Tiny()
    variables = model.init(jax.random.key(1), jnp.zeros((1, 4, 4, 1)))
    params = jax.tree.map(lambda x: np.asarray(x) + 0.1, variables["params"])
    params["before"]["kernel"] = params["before"]["kernel"] * scale
    stats = {"norm": {"mean": 0.2 * scale, "var": np.float32(0.5) * scale**2}}
    return Trained(
        name="tiny",
        config=DownstreamConfig(loss="poly1"),
        epoch=1,
        test_accuracy=0.5,
        apply=lambda variables, x: model.apply(variables, x.astype(jnp.float32) / 255.0),
        params=params,
        batch_stats=stats,
        images=images,
        labels=labels,
        losses={"own": loss.get("poly1"), "cross_entropy": loss.get("cross_entropy")},
        scales={"own": 2.0, "cross_entropy": 1.0},
        digest="",
    )


def dense_hessian(network, name):
    flat, unravel = ravel_pytree(network.params)

    def mean(flat):
        variables = {"params": unravel(flat), "batch_stats": network.batch_stats}
        return jnp.mean(network.losses[name](network.apply(variables, network.images), network.labels))

    return np.asarray(jax.jit(jax.hessian(mean))(flat), np.float64)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return measure(make(), CONFIG, tmp_path_factory.mktemp("tiny"), lambda what: None, lambda: None)


@pytest.mark.parametrize("name", ["own", "cross_entropy"])
def test_eigenvalues_and_traces_are_those_of_the_dense_hessian(measured, name):
    hessian = dense_hessian(make(), name)
    found = measured.own if name == "own" else measured.reference
    assert found.loss == name
    exact = np.linalg.eigh(hessian)[0][::-1]
    assert found.eigenvalues == pytest.approx(exact[:3], rel=2e-4)
    assert all(found.known(1e-4))
    # Hutchinson's estimate, and its error: Rademacher signs see what is beside the diagonal alone.
    assert found.trace.value == pytest.approx(np.trace(hessian), abs=4.0 * found.trace.error)
    beside = hessian - np.diag(np.diag(hessian))
    assert found.trace.error == pytest.approx(np.sqrt(2.0 * np.sum(beside**2) / CONFIG.probes), rel=0.4)
    # A random direction of a filter of n weights has in each of them 1 / n of the filter's squared length.
    weights = jax.tree.map(_squared_steps, make().params)
    expected = np.sum(np.asarray(ravel_pytree(weights)[0]) * np.diag(hessian))
    assert found.normalised.value == pytest.approx(expected, abs=4.0 * found.normalised.error)


def _squared_steps(leaf):
    if leaf.ndim < 2:
        return np.zeros_like(leaf)
    axes = tuple(range(leaf.ndim - 1))
    return np.broadcast_to(np.mean(np.square(leaf), axis=axes, keepdims=True), leaf.shape)


def test_probes_are_unbiased():
    """Over many probes, the mean is the trace within its error, and the errors are as they say."""
    surface = Surface(make(), 24, lambda: None)
    hessian = dense_hessian(make(), "cross_entropy").astype(np.float32)
    surface.product = lambda name, vector: hessian @ vector  # the same, cheaper
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], (4000, len(hessian))).astype(np.float32)
    samples = np.sum(signs * (signs @ hessian), axis=1)
    assert np.mean(samples) == pytest.approx(np.trace(hessian), abs=4.0 * np.std(samples) / np.sqrt(4000))


def test_slices_begin_at_the_minimum_and_are_the_loss_itself(measured):
    network, slices = make(), measured.slices
    assert slices.at.tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert slices.lines["own"][:, 2] == pytest.approx([measured.losses["own"]] * 2)
    assert slices.plane["cross_entropy"][1, 1] == pytest.approx(measured.losses["cross_entropy"])
    # The plane's middle row and column are its two lines.
    assert slices.plane["own"][1] == pytest.approx(slices.lines["own"][0, ::2], rel=1e-5)
    assert slices.plane["own"][:, 1] == pytest.approx(slices.lines["own"][1, ::2], rel=1e-5)
    key = jax.random.split(jax.random.fold_in(jax.random.key(CONFIG.seed), 3), 2)[0]
    params = jax.tree.map(lambda w, d: w + 0.5 * d, network.params, filter_normalised(key, network.params))
    logits = network.apply({"params": params, "batch_stats": network.batch_stats}, network.images)
    assert slices.lines["own"][0, 3] == pytest.approx(
        float(jnp.mean(loss.get("poly1")(logits, network.labels))), rel=1e-5
    )


def test_the_size_of_filters_before_a_normalisation_makes_no_difference(measured, tmp_path):
    """As that of the network does not change; the Hessian itself does."""
    config = dataclasses.replace(CONFIG, iterations=3)
    other = measure(make([7.0, 0.3]), config, tmp_path, lambda what: None, lambda: None)
    assert other.losses == pytest.approx(measured.losses, rel=1e-4)
    for name in ("own", "cross_entropy"):
        assert other.slices.lines[name] == pytest.approx(measured.slices.lines[name], rel=1e-3)
        assert other.slices.plane[name] == pytest.approx(measured.slices.plane[name], rel=1e-3)
    assert other.reference.normalised == pytest.approx(measured.reference.normalised, rel=1e-2)
    assert abs(other.reference.trace.value / measured.reference.trace.value - 1.0) > 0.1


def test_filters_keep_their_length_and_the_rest_stays():
    params = make().params
    drawn = filter_normalised(jax.random.key(4), params)
    for name in ("before", "last"):
        kernels = [
            np.asarray(tree[name]["kernel"]).reshape(-1, tree[name]["kernel"].shape[-1]) for tree in (params, drawn)
        ]
        assert np.linalg.norm(kernels[1], axis=0) == pytest.approx(np.linalg.norm(kernels[0], axis=0), rel=1e-5)
    assert not np.any(drawn["last"]["bias"])
    assert not np.any(drawn["norm"]["scale"])


def test_each_function_is_compiled_once(compilations, tmp_path):
    config = dataclasses.replace(CONFIG, iterations=3, probes=2, points=3, directions=2)
    with compilations() as programs:
        measure(make(), config, tmp_path, lambda what: None, lambda: None)
    assert programs["jit(sums)"] == 1
    assert programs["jit(add)"] == 2  # a loss each


def symmetric(values, seed=0):
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.standard_normal((len(values), len(values))))[0]
    return ((q * values) @ q.T).astype(np.float32)


def test_many_steps_in_float32_find_no_eigenvalue_twice():
    """Without reorthogonalisation the largest would appear again and again."""
    matrix = symmetric(np.concatenate([[100.0, 40.0, 39.0], np.linspace(-1.0, 1.0, 117)]))
    state = State.start(np.ones(120))
    for _ in range(60):
        state.step(functools.partial(np.matmul, matrix))
    values, errors = state.ritz()
    assert values[:3] == pytest.approx([100.0, 40.0, 39.0], rel=1e-5)
    assert np.all(errors[:3] < 1e-3)
    assert values[3] < 1.001
    vectors = np.stack(state.vectors)
    assert np.abs(vectors @ vectors.T - np.eye(61)).max() < 1e-5
    assert state.converged(3, 1e-4)
    assert not state.converged(30, 1e-4)


def test_a_matrix_of_low_rank_ends_the_method():
    matrix = symmetric(np.array([5.0, 2.0, -3.0] + [0.0] * 17))
    state = State.start(np.ones(20))
    while not state.ended:
        state.step(functools.partial(np.matmul, matrix))
    assert len(state.diagonal) <= 5
    values, errors = state.ritz()
    assert values[:2] == pytest.approx([5.0, 2.0], rel=1e-4)
    assert not errors.any()
    assert state.converged(9, 1e-9)


def test_a_state_that_was_kept_goes_on_as_if_never_stopped(tmp_path, caplog):
    matrix = symmetric(np.linspace(0.0, 3.0, 30))

    def steps(state, count):
        for _ in range(count):
            state.step(functools.partial(np.matmul, matrix))
        return state

    def start():
        return np.ones(30)

    whole = steps(State.start(start()), 9)
    ledger.Vectors(tmp_path).keep(steps(State.start(start()), 4), now=True)
    stored = ledger.Vectors(tmp_path)
    state = stored.read(start)
    stored.keep(steps(state, 3), now=True)
    again = steps(ledger.Vectors(tmp_path).read(start), 2)
    assert (again.diagonal, again.beside) == (whole.diagonal, whole.beside)
    (tmp_path / "vector-002.safetensors").write_bytes(b"damaged")
    assert ledger.Vectors(tmp_path).read(start).diagonal == []
    assert "is unreadable, computing again" in caplog.text
    ledger.Vectors(tmp_path).remove()
    assert not tmp_path.exists()


def test_a_loss_of_twice_the_size_has_twice_the_scale():
    double = scale_of(lambda z, y: 2.0 * loss.cross_entropy(z, y), 5)
    assert double == pytest.approx(2.0, rel=1e-5)
    assert scale_of(loss.get("edl"), 10) == pytest.approx(1.0, rel=0.02)
