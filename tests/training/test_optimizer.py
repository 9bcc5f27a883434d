import contextlib

import jax
import numpy as np
import optax
import pytest

from edl_jax.core.errors import UserError
from edl_jax.core.runs import Run
from edl_jax.downstream import DownstreamConfig
from edl_jax.training import sgd, warmup_cosine
from edl_jax.training.optimizer import DEFAULTS, make_optimizer, optimizers
from edl_jax.training.schedule import make_schedule


def test_learning_rate_rises_linearly_then_falls_along_a_cosine_to_zero():
    schedule = warmup_cosine(0.4, total_steps=110, warmup_steps=10)
    found = jax.jit(jax.vmap(schedule))(np.array([0, 1, 5, 10, 35, 60, 110]))
    half = 0.5 * (1 + np.cos(np.pi * 0.25))
    np.testing.assert_allclose(found, [0.0, 0.04, 0.2, 0.4, 0.4 * half, 0.2, 0.0], atol=1e-7)


def test_without_warm_up_the_first_step_has_the_full_rate():
    schedule = warmup_cosine(0.1, total_steps=100)
    assert float(schedule(0)) == pytest.approx(0.1)
    assert float(schedule(50)) == pytest.approx(0.05)


def pytorch_sgd(param, grads, lrs, momentum, weight_decay):
    """torch.optim.SGD(nesterov=True), as its documentation writes it."""
    velocity = np.zeros_like(param)
    for grad, lr in zip(grads, lrs, strict=True):
        grad = grad + weight_decay * param
        velocity = momentum * velocity + grad
        step = grad + momentum * velocity if momentum else grad
        param = param - lr * step
    return param


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_sgd_is_pytorchs_nesterov_with_coupled_weight_decay_on_all_parameters(momentum):
    rng = np.random.default_rng(0)
    start = {"kernel": rng.normal(size=3), "bias": rng.normal(size=2), "scale": rng.normal(size=2)}
    grads = [{name: rng.normal(size=value.shape) for name, value in start.items()} for _ in range(6)]
    schedule = warmup_cosine(0.5, total_steps=6, warmup_steps=2)
    optimizer = sgd(schedule, momentum=momentum, weight_decay=0.1)
    params = train(optimizer, start, grads)
    lrs = np.asarray(jax.jit(jax.vmap(schedule))(np.arange(6)))
    for name, value in start.items():
        expected = pytorch_sgd(value, [grad[name] for grad in grads], lrs, momentum, 0.1)
        np.testing.assert_allclose(params[name], expected, rtol=1e-5, atol=1e-6)


B2, EPS = 0.999, 1e-8


def adam_direction(grad, memory, step, b1):
    memory["m"] = b1 * memory.get("m", 0.0) + (1 - b1) * grad
    memory["v"] = B2 * memory.get("v", 0.0) + (1 - B2) * grad**2
    return (memory["m"] / (1 - b1**step)) / (np.sqrt(memory["v"] / (1 - B2**step)) + EPS)


def lion_direction(grad, memory, step, b1):
    mean = memory.get("m", np.zeros_like(grad))
    memory["m"] = 0.99 * mean + 0.01 * grad
    return np.sign(b1 * mean + (1 - b1) * grad)


def muon_direction(grad, memory, step, b1):
    """Nesterov momentum, orthogonalised by five Newton-Schulz steps, at the size of AdamW's updates."""
    if grad.ndim not in (2, 4):
        return adam_direction(grad, memory, step, 0.9)
    memory["m"] = b1 * memory.get("m", 0.0) + (1 - b1) * grad
    ahead = b1 * memory["m"] / (1 - b1 ** (step + 1)) + (1 - b1) * grad / (1 - b1**step)
    matrix = ahead.reshape(-1, grad.shape[-1])
    matrix = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        square = matrix @ matrix.T
        matrix = 3.4445 * matrix + (-4.7750 * square + 2.0315 * square @ square) @ matrix
    return 0.2 * np.sqrt(max(matrix.shape)) * matrix.reshape(grad.shape)


DIRECTIONS = {"adamw": adam_direction, "lion": lion_direction, "muon": muon_direction}
SHAPES = {"conv": (2, 1, 3, 4), "dense": (5, 3), "position": (1, 2, 3), "scale": (4,), "bias": (3,)}
KERNELS = ("conv", "dense")


def draw(rng):
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


def as_float32(tree):
    return jax.tree.map(np.float32, tree)


def train(optimizer, start, grads):
    params = as_float32(start)

    @jax.jit
    def step(params, state, grad):
        updates, state = optimizer.update(grad, state, params)
        return optax.apply_updates(params, updates), state

    state = jax.jit(optimizer.init)(params)
    for grad in grads:
        params, state = step(params, state, as_float32(grad))
    return jax.device_get(params)


@pytest.mark.parametrize(("name", "decay_all"), [("adamw", True), ("adamw", False), ("lion", True), ("muon", False)])
def test_optimizer_agrees_with_numpy_with_decoupled_decay(name, decay_all):
    rng = np.random.default_rng(3)
    start, grads = draw(rng), [draw(rng) for _ in range(4)]
    schedule = make_schedule("linear", 0.02, 4)
    found = train(make_optimizer(name, schedule, weight_decay=0.3, decay_all=decay_all), start, grads)
    for leaf, param in start.items():
        decay = 0.3 if decay_all or leaf in KERNELS else 0.0
        memory = {}
        for step, grad in enumerate(grads, start=1):
            direction = DIRECTIONS[name](grad[leaf], memory, step, DEFAULTS[name].momentum)
            param = param - 0.02 * (5 - step) / 4 * (direction + decay * param)
        np.testing.assert_allclose(found[leaf], param, rtol=2e-4, atol=2e-6, err_msg=leaf)


def test_optimizers_have_a_reference_in_these_tests():
    assert set(optimizers()) == {*DIRECTIONS, "sgd"}


@pytest.mark.parametrize("decay_all", [True, False])
def test_sgd_by_name_has_its_published_defaults_and_masks_its_decay(decay_all):
    rng = np.random.default_rng(4)
    start, grads = draw(rng), [draw(rng) for _ in range(3)]
    found = train(make_optimizer("sgd", 0.1, decay_all=decay_all), start, grads)
    for leaf, param in start.items():
        decay = 5e-4 if decay_all or leaf in KERNELS else 0.0
        expected = pytorch_sgd(param, [grad[leaf] for grad in grads], [0.1] * 3, 0.9, decay)
        np.testing.assert_allclose(found[leaf], expected, rtol=1e-5, atol=1e-6, err_msg=leaf)


@pytest.mark.parametrize(("factor", "expected"), [(0.5, 1.0), (3.0, 2.0 / 3.0)])
def test_gradients_are_clipped_to_a_global_norm_before_the_weight_decay(factor, expected):
    start = {"a": np.array([[10.0, 20.0]]), "b": np.array([30.0])}
    unit = {"a": np.array([[0.6, 0.0]]), "b": np.array([-0.8])}  # of global norm 1
    grads = [{name: factor * value for name, value in unit.items()}]
    found = train(make_optimizer("sgd", 1.0, momentum=0.0, weight_decay=0.1, clip_norm=2.0), start, grads)
    for name, value in start.items():
        np.testing.assert_allclose(found[name], 0.9 * value - expected * factor * unit[name], rtol=1e-6)


def other_than_muon(*names):
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", ["muon", *other_than_muon("adamw", "lion", "sgd")])
def test_state_of_an_optimizer_survives_a_checkpoint(name, tmp_path):
    params = {"conv": np.ones((1, 1, 2, 3), np.float32), "bias": np.ones(3, np.float32)}
    optimizer = make_optimizer(name, make_schedule("cosine", 0.1, 10), clip_norm=1.0)
    init = jax.jit(optimizer.init)
    _, state = jax.jit(optimizer.update)(params, init(params), params)
    with contextlib.closing(Run.open("test", DownstreamConfig(), out=tmp_path / "run")) as run:
        run.save(1, state)
        step, restored = run.restore(init(params))
    assert step == 1
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "adam"}, "unknown optimizer 'adam': did you mean adamw"),
        ({"momentum": 1.0}, "momentum is 1.0, expected at least 0 and below 1"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1, expected 0 or a positive number"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0, expected a positive number"),
    ],
)
def test_optimizer_refuses_what_it_cannot_use(settings, message):
    with pytest.raises(UserError, match=message):
        make_optimizer(**{"name": "sgd", "lr": 0.1, **settings})
