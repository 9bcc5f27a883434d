"""The forms of layers for a CPU agree with Flax's and lax's: values, gradients, statistics, names."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from edl_jax import models
from edl_jax.backend import cpu_conv, cpu_forms
from edl_jax.models import layers

LAYOUT = ("NHWC", "HWIO", "NHWC")


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def assert_alike(function, expected, *arguments):
    """Compare two functions that are compiled as one program.

    Values, gradients for one random cotangent, and how these change along the arguments: forwards over backwards.
    """

    @jax.jit
    def both(*arguments):
        results = []
        for one in (function, expected):

            def gradients(*arguments, one=one):
                value, backward = jax.vjp(one, *arguments)
                return value, backward(draw(*value.shape, seed=9).astype(value.dtype))

            results.append(jax.jvp(gradients, arguments, arguments))
        return results

    assert_close(*both(*arguments))


def assert_close(actual, expected, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        a, b = np.float32(a), np.float32(b)
        scale = float(np.max(np.abs(b))) or 1.0
        np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("image", "size", "inputs", "outputs", "stride", "pad", "form"),
    [
        ((12, 8), 5, 3, 6, 1, 0, "blocks"),
        ((6, 10), 3, 8, 4, 1, 0, "blocks"),
        ((7, 5), 3, 3, 4, 1, 1, "columns"),
        ((6, 6), 3, 1, 4, 1, 1, "columns"),
        ((7, 5), 3, 16, 5, 1, 1, "shifts"),
        ((1, 2), 3, 5, 16, 1, 1, "shifts"),
        ((8, 6), 3, 5, 7, 2, 1, "phases"),
        ((2, 2), 3, 2, 3, 2, 1, "phases"),
        ((7, 8), 3, 5, 7, 2, 1, None),  # an odd side
        ((9, 9), 5, 3, 6, 1, 0, None),
        ((8, 8), 3, 17, 8, 1, 1, None),
        ((8, 8), 1, 16, 8, 2, 0, None),
    ],
)
def test_convolutions_are_those_of_lax(monkeypatch, image, size, inputs, outputs, stride, pad, form):
    called = []
    for name in ("blocks", "columns", "shifts", "phases"):
        original = getattr(cpu_conv, name)
        monkeypatch.setattr(cpu_conv, name, lambda *a, f=original, n=name: (called.append(n), f(*a))[1])
    x, kernel = draw(3, *image, inputs), draw(size, size, inputs, outputs, seed=1)
    given = {"dimension_numbers": LAYOUT, "lhs_dilation": (1, 1), "rhs_dilation": (1, 1), "feature_group_count": 1}

    def convolve(function):
        return lambda x, kernel: function(x, kernel, (stride, stride), ((pad, pad), (pad, pad)), **given)

    mine, plain = convolve(cpu_conv.conv_general_dilated), convolve(lax.conv_general_dilated)
    if form:
        assert_alike(mine, plain, x, kernel)
    else:
        assert_same_program(mine, plain, x, kernel)
    assert set(called) == ({form} if form else set())


def assert_same_program(function, expected, *arguments):
    assert str(jax.make_jaxpr(function)(*arguments)) == str(jax.make_jaxpr(expected)(*arguments))


@pytest.mark.parametrize("dilation", [(1, 1), (2, 2)])
def test_groups_and_dilation_stay_with_lax(dilation):
    def convolve(function):
        options = {"dimension_numbers": LAYOUT, "feature_group_count": 4, "rhs_dilation": dilation}
        return lambda x, kernel: function(x, kernel, (1, 1), ((1, 1), (1, 1)), **options)

    both = (convolve(function) for function in (cpu_conv.conv_general_dilated, lax.conv_general_dilated))
    assert_same_program(*both, draw(2, 8, 8, 4), draw(3, 3, 1, 8, seed=1))


@pytest.mark.parametrize("shape", [(2, 6, 4, 3), (2, 5, 7, 3)])
def test_max_pool_gives_the_gradient_to_the_first_of_equals(shape):
    x = np.round(draw(*shape) * 2)  # many ties
    assert_alike(cpu_forms.max_pool_2x2, lambda x: nn.max_pool(x, (2, 2), strides=(2, 2)), x)


def test_relu_keeps_nan_and_has_no_slope_at_zero():
    x = np.array([-1.0, -0.0, 0.0, 2.0, np.nan, np.inf, -np.inf], np.float32)
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(cpu_forms.relu)))(x)
    np.testing.assert_array_equal(values, [0, 0, 0, 2, np.nan, np.inf, 0])
    np.testing.assert_array_equal(slopes[:4], [0, 0, 0, 1])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_batch_norm_agrees_with_flax(dtype):
    x = jnp.asarray(draw(6, 5, 4, 3) * np.array([0.1, 1.0, 5.0], np.float32) + 2.0, dtype)
    params = {"scale": draw(3, seed=2), "bias": draw(3, seed=3)}
    stats = {"mean": draw(3, seed=4), "var": np.abs(draw(3, seed=5))}

    @jax.jit
    def both(params, x):
        results = []
        for layer in (cpu_forms.BatchNorm, nn.BatchNorm):
            module = layer(use_running_average=False, momentum=0.9, dtype=dtype)

            def apply(params, x, module=module):
                return module.apply({"params": params, "batch_stats": stats}, x, mutable=["batch_stats"])

            y, backward, moved = jax.vjp(apply, params, x, has_aux=True)
            results.append((y, moved, backward(draw(*y.shape, seed=6).astype(dtype))))
        return results

    assert_close(*both(params, x), tolerance=1e-5 if dtype == jnp.float32 else 2e-2)
    shapes = jax.eval_shape(cpu_forms.BatchNorm(use_running_average=False).init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, shapes) == {
        "params": {"scale": (3,), "bias": (3,)},
        "batch_stats": {"mean": (3,), "var": (3,)},
    }


@pytest.mark.parametrize("options", [{"use_scale": False}, {"use_bias": False}, {"axis": 1}])
def test_other_batch_norms_are_flax_s(options):
    x = draw(6, 5, 4, 3)

    def trained(layer):
        module = layer(use_running_average=False, **options)
        variables = module.init(jax.random.key(0), x)
        return module.apply(variables, x, mutable=["batch_stats"])

    assert_same_program(*(lambda layer=layer: trained(layer) for layer in (cpu_forms.BatchNorm, nn.BatchNorm)))


def random_variables(module, *inputs, **options):
    """Return variables drawn by NumPy: nothing is compiled."""
    shapes = jax.eval_shape(lambda key: module.init(key, *inputs, **options), jax.random.key(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: np.abs(rng.normal(size=leaf.shape, scale=0.2)).astype(np.float32), shapes)


@pytest.mark.parametrize("arch", [pytest.param("resnet8", marks=pytest.mark.slow), "lenet5"])
def test_networks_have_the_gradients_of_the_plain_form(monkeypatch, arch):
    images, model = draw(8, 16, 16, 3), models.create(arch, 10)
    variables = random_variables(model, images, train=False)

    def total(params):
        logits, moved = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
        return jnp.mean(jnp.square(logits)), (logits, moved)

    @jax.jit
    def both(params):
        results = []
        for cpu in (True, False):
            monkeypatch.setattr(layers, "on_cpu", lambda cpu=cpu: cpu)
            results.append(jax.grad(total, has_aux=True)(params))
        return results

    assert_close(*both(variables["params"]), tolerance=2e-4)


def test_first_and_second_derivatives_are_those_of_the_plain_form(monkeypatch):
    """The second by reverse mode twice, as losses learned through a training step need them, and forwards."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = layers.conv(4, 3, 1, jnp.float32, "shifts", init=layers.kaiming_fan_in)(x)
            x = layers.max_pool(layers.relu(layers.batch_norm(True, jnp.float32)(name="norm")(x)))
            return layers.conv(3, 3, 2, jnp.float32, "phases", init=layers.kaiming_fan_in)(x)

    x = draw(2, 8, 8, 5)
    variables = random_variables(Net(), x)

    def total(params):
        logits, _ = Net().apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return jnp.sum(jnp.square(logits))

    def slope(params):
        gradient = jax.grad(total)(params)
        return sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradient)), gradient

    @jax.jit
    def both(params):
        results = []
        for cpu in (True, False):
            monkeypatch.setattr(layers, "on_cpu", lambda cpu=cpu: cpu)
            product = jax.jvp(jax.grad(total), (params,), (params,))[1]
            results.append((jax.grad(slope, has_aux=True)(params), product))
        return results

    assert_close(*both(variables["params"]), tolerance=1e-4)


@pytest.mark.slow
def test_seeds_in_one_program(monkeypatch):
    """Networks of several weights at once, as `jax.vmap` makes them."""
    model, images = models.create("lenet5", 10), draw(4, 32, 32, 3)
    variables = jax.vmap(lambda key: model.init(key, images, train=False))(jax.random.split(jax.random.key(0), 2))

    def gradients(variables):
        return jax.grad(lambda v: jnp.sum(jnp.square(model.apply(v, images, train=True))))(variables)

    together = jax.jit(jax.vmap(gradients))(variables)
    alone = jax.jit(gradients)
    for seed in range(2):
        assert_close(
            jax.tree.map(lambda a, s=seed: a[s], together), alone(jax.tree.map(lambda a, s=seed: a[s], variables))
        )
