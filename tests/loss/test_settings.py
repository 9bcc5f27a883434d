"""Every loss where a user's JAX differs: two devices, strict promotion of dtypes."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import TWO_CLASSES, normal, soft_labels
from network_cases import random_network

from edl_jax import loss

TESTS = Path(__file__).parent
BATCH = np.asarray(normal(3, (6, 5), 3.0)), np.arange(6) % 5
NETWORKS = ("joint identity", "monotone identity", "pairwise identity")  # the kinds that no shipped prior has
WEIGHTS = np.array([1.0, 0.5, 2.0, 1.0, 0.0], np.float32)


@pytest.mark.parametrize(
    "cases", [["mask of classes"], pytest.param(["smoothed", "probabilities"], marks=pytest.mark.slow)]
)
def test_two_devices(cases):
    """One process for all losses: sharded batches on a mesh with Explicit axis types, and class-parallel logits."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, str(TESTS / "two_devices.py"), *cases]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.splitlines() == ["done"], done.stdout + done.stderr


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        (jnp.bfloat16, "integers"),
        *(
            pytest.param(dtype, kind, marks=pytest.mark.slow)
            for dtype in (jnp.bfloat16, jnp.float16, jnp.float64)
            for kind in ("integers", "probabilities")
            if (dtype, kind) != (jnp.bfloat16, "integers")
        ),
    ],
)
def test_strict_promotion(every, dtype, kind):
    """What it refuses is refused while tracing: nothing is compiled."""
    with jax.enable_x64(dtype == jnp.float64):
        strict_promotion(every, dtype, kind)


def strict_promotion(every, dtype, kind):
    logits, labels = jnp.asarray(BATCH[0], dtype), BATCH[1]
    where = np.ones((6, 5), bool)
    y, arguments = {
        "integers": (labels.astype(np.uint8), {"where": where, "class_weights": WEIGHTS, "ignore_label": 2}),
        "probabilities": (
            jnp.asarray(soft_labels(1, (6, 5)), dtype),
            {"smoothing": np.float64(0.1), "class_weights": WEIGHTS},
        ),
    }[kind]
    networks = {name: loss.learned_loss(random_network(0, name)) for name in NETWORKS}
    arrays = {
        "barron": loss.get("barron", alpha=np.float32(1.5)),
        "taylor_glo": loss.get("taylor_glo", theta=np.array([0.1, 1.0, -1.0])),
        "gce": loss.get("gce", k=0.3),
    }
    with jax.numpy_dtype_promotion("strict"):
        for name, function in (every.losses | networks | {f"{name}, k": f for name, f in arrays.items()}).items():
            assert dtypes(function, logits, y, arguments) == (dtype, dtype), name
        present = y % 2 if y.ndim == 1 else jnp.eye(2, dtype=dtype)[np.arange(6) % 2]
        weights = {key: x[..., :2] if np.shape(x)[-1:] == (5,) else x for key, x in arguments.items()}
        for name in TWO_CLASSES:
            assert dtypes(loss.get(name), logits[:, :2], present, weights) == (dtype, dtype), name


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64])
def test_adapters_under_strict_promotion(dtype):
    wide = jnp.promote_types(dtype, jnp.float32)
    hidden, labels = jnp.ones((6, 4), jnp.bfloat16), np.arange(6) % 5
    with jax.enable_x64(dtype == jnp.float64), jax.numpy_dtype_promotion("strict"):
        weights = jnp.ones((4, 5), dtype)

        def linear(weights):
            values = loss.linear(hidden, weights, labels, bias=weights[0], ignore_label=2, chunk=3)
            return jnp.sum(values)

        value, gradient = jax.eval_shape(jax.value_and_grad(linear), weights)
        assert (value.dtype, gradient.dtype) == (wide, dtype)
        for function in (loss.of_nll("edl"), lambda z: loss.multilabel("edl")(z, z)):
            values, gradient = jax.eval_shape(lambda z, f=function: jax.vjp(f, z)[0:1] + jax.vjp(f, z)[1](z), weights)
            assert (values.dtype, gradient.dtype) == (dtype, dtype)


def test_eager_values_make_no_infinity():
    """Outside jit every operation is looked at: those of ln(1 - p) have masked sums."""
    with jax.debug_nans(True), jax.debug_infs(True):
        for labels in (BATCH[1], np.asarray(soft_labels(1, (6, 5)))):
            assert np.all(np.isfinite(loss.get("focal")(BATCH[0], labels)))


def dtypes(function, logits, labels, arguments):
    """Return the dtypes of the values and of the gradient."""

    def both(z):
        values, pullback = jax.vjp(lambda x: function(x, labels, **arguments), z)
        return values, pullback(jnp.ones_like(values))[0]

    return tuple(x.dtype for x in jax.eval_shape(both, logits))
