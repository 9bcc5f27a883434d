import jax.numpy as jnp
import numpy as np
import optax
import pytest

from edl_jax.training import sgd, warmup_cosine


def test_learning_rate_rises_linearly_then_falls_along_a_cosine_to_zero():
    schedule = warmup_cosine(0.4, total_steps=110, warmup_steps=10)
    found = [float(schedule(step)) for step in (0, 1, 5, 10, 35, 60, 110)]
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
    params = {name: jnp.asarray(value, jnp.float32) for name, value in start.items()}
    state = optimizer.init(params)
    for grad in grads:
        grad = {name: jnp.asarray(value, jnp.float32) for name, value in grad.items()}
        updates, state = optimizer.update(grad, state, params)
        params = optax.apply_updates(params, updates)
    lrs = [float(schedule(step)) for step in range(6)]
    for name, value in start.items():
        expected = pytorch_sgd(value, [grad[name] for grad in grads], lrs, momentum, 0.1)
        np.testing.assert_allclose(params[name], expected, rtol=1e-5, atol=1e-6)
