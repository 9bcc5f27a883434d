"""What blocks compute, against float64 NumPy, and how kernels start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf, softmax
from scipy.stats import truncnorm

from edl_jax import models
from edl_jax.core.errors import UserError
from edl_jax.models.efficientnet import SqueezeExcite
from edl_jax.models.mixer import MLPMixer
from edl_jax.models.preresnet import PreActBlock
from edl_jax.models.resnet import BasicBlock, BottleneckBlock
from edl_jax.models.vit import ViT

IMAGES = np.random.default_rng(0).normal(size=(3, 4, 6, 2)).astype(np.float32)


def random_params(module, *inputs, **kwargs):
    """Return parameters drawn by NumPy, so that biases, scales and small initial values count too."""
    shapes = jax.eval_shape(lambda key: module.init(key, *inputs, **kwargs), jax.random.key(0))["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape, scale=0.5).astype(np.float32), shapes)


def dense(x, p):
    return x @ np.float64(p["kernel"]) + p["bias"]


def layer_norm(x, p):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def gelu(x):
    return x * (1 + erf(x / np.sqrt(2))) / 2


def embed(p, patch):
    """Return the tokens of `IMAGES`: each patch flattened row by row, one linear map."""
    n, height, width, channels = IMAGES.shape
    x = np.float64(IMAGES).reshape(n, height // patch, patch, width // patch, patch, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(n, -1, patch * patch * channels)
    return dense(x, {"kernel": p["kernel"].reshape(-1, p["kernel"].shape[-1]), "bias": p["bias"]})


def assert_logits_and_gradients(model, params, expected):
    """Compare logits; the gradient of training must be finite and reach every parameter."""

    @jax.jit
    def both(params):
        def objective(params):
            return jnp.sum(jax.nn.log_softmax(model.apply({"params": params}, IMAGES, train=True))[:, 0])

        return model.apply({"params": params}, IMAGES, train=False), jax.grad(objective)(params)

    logits, gradient = both(params)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf)), path
        assert np.any(np.asarray(leaf) != 0), path


def test_vit_agrees_with_numpy():
    model = ViT(5, patch=2, width=6, depth=1, heads=2)
    params = random_params(model, IMAGES, train=False)
    p = params["block1"]
    x = embed(params["patches"], 2)
    x = np.concatenate([np.repeat(params["token"], len(x), 0), x], 1) + params["positions"]
    q, k, v = np.split(dense(layer_norm(x, p["norm1"]), p["qkv"]), 3, -1)
    heads = []
    for head in (slice(0, 3), slice(3, 6)):
        weights = softmax(q[..., head] @ k[..., head].swapaxes(1, 2) / np.sqrt(3), -1)
        heads.append(weights @ v[..., head])
    x = x + dense(np.concatenate(heads, -1), p["out"])
    x = x + dense(gelu(dense(layer_norm(x, p["norm2"]), p["dense1"])), p["dense2"])
    expected = dense(layer_norm(x[:, 0], params["norm"]), params["head"])
    assert_logits_and_gradients(model, params, expected)


def test_mixer_agrees_with_numpy():
    model = MLPMixer(5, patch=2, width=5, depth=1, token_hidden=3, feature_hidden=4)
    params = random_params(model, IMAGES, train=False)
    p = params["block1"]
    x = embed(params["patches"], 2)
    hidden = gelu(dense(layer_norm(x, p["norm1"]).swapaxes(1, 2), p["token_dense1"]))
    x = x + dense(hidden, p["token_dense2"]).swapaxes(1, 2)
    x = x + dense(gelu(dense(layer_norm(x, p["norm2"]), p["feature_dense1"])), p["feature_dense2"])
    expected = dense(layer_norm(x, params["norm"]).mean(1), params["head"])
    assert_logits_and_gradients(model, params, expected)


def test_squeeze_and_excitation_agrees_with_numpy():
    module = SqueezeExcite(3)
    params = random_params(module, IMAGES)
    hidden = dense(IMAGES.mean((1, 2), dtype=np.float64), params["reduce"])
    gate = dense(hidden / (1 + np.exp(-hidden)), params["expand"])
    expected = IMAGES / (1 + np.exp(-gate))[:, None, None, :]
    np.testing.assert_allclose(jax.jit(module.apply)({"params": params}, IMAGES), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first", [True, False])
def test_shortcut_of_a_preactivation_block_is_the_raw_input_except_in_the_first(first):
    block = PreActBlock(2, first=first)
    variables = jax.eval_shape(lambda key: block.init(key, IMAGES, train=False), jax.random.key(0))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), variables)
    for name in ("norm1", "norm2"):
        variables["batch_stats"][name]["var"] = np.ones(2, np.float32)
        variables["params"][name]["scale"] = np.ones(2, np.float32)
    # Convolutions of zeros leave the shortcut alone.
    out = jax.jit(lambda v: block.apply(v, IMAGES, train=False))(variables)
    np.testing.assert_allclose(out, np.maximum(IMAGES, 0) if first else IMAGES, rtol=1e-4)


@pytest.mark.parametrize("block", [BasicBlock(4), BottleneckBlock(1)])
def test_a_residual_block_adds_its_shortcut(block):
    images = np.concatenate([IMAGES, -IMAGES], axis=-1)
    variables = jax.eval_shape(lambda key: block.init(key, images, train=False), jax.random.key(0))
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), variables)
    for name in ("norm1", "norm2", "norm3")[: len(variables["batch_stats"])]:
        variables["params"][name] = jax.tree.map(np.zeros_like, variables["params"][name])
    # What is scaled to 0 leaves the shortcut alone.
    out = jax.jit(lambda v: block.apply(v, images, train=False))(variables)
    np.testing.assert_allclose(out, np.maximum(images, 0), rtol=1e-6)


# Standard deviation of a kernel of `size` x `size`, given fan-in and fan-out.
STD = {
    "kaiming_fan_in": lambda fan_in, fan_out: np.sqrt(2 / fan_in),
    "kaiming_fan_out": lambda fan_in, fan_out: np.sqrt(2 / fan_out),
    "lecun": lambda fan_in, fan_out: np.sqrt(1 / fan_in),
    "xavier": lambda fan_in, fan_out: np.sqrt(2 / (fan_in + fan_out)),
    "truncated_normal": lambda fan_in, fan_out: 0.02 * truncnorm.std(-2, 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("init", STD)
def test_init_sets_the_spread_of_every_kernel_but_the_classifiers(init, key):
    model = models.create("lenet5", 10, init=init)
    params = jax.jit(lambda k: model.init(k, jnp.zeros((1, 32, 32, 3)), train=False))(key)["params"]
    for name, fans in {"conv2": (150, 400), "dense1": (400, 120), "dense2": (120, 84)}.items():
        # 2,400 values or more: the sample's standard deviation is known to a few hundredths.
        assert np.std(params[name]["kernel"]) == pytest.approx(STD[init](*fans), rel=0.08), name
    assert np.std(params["head"]["kernel"]) == pytest.approx(np.sqrt(1 / 84), rel=0.1)


@pytest.mark.slow
def test_orthogonal_init_has_orthogonal_columns(key):
    kernel = models.create("mlp", 10, init="orthogonal").init(key, jnp.zeros((1, 14, 14, 1)), train=False)
    kernel = kernel["params"]["dense1"]["kernel"]
    np.testing.assert_allclose(kernel.T @ kernel, 2 * np.eye(128), atol=1e-4)


def test_zero_residual_init_starts_blocks_as_their_shortcuts():
    def scales(arch, init):
        model = models.create(arch, 10, init=init)

        def mean_scales(key):
            params = model.init(key, jnp.zeros((1, 8, 8, 1)), train=False)["params"]
            return {name: params["stage1_block1"][name]["scale"].mean() for name in ("norm1", "norm2", "norm3")[:last]}

        return jax.tree.map(float, jax.jit(mean_scales)(jax.random.key(0)))

    last = 2
    assert scales("resnet8", "zero_residual") == {"norm1": 1.0, "norm2": 0.0}
    assert scales("resnet8", "default") == {"norm1": 1.0, "norm2": 1.0}
    last = 3
    assert scales("resnet50", "zero_residual") == {"norm1": 1.0, "norm2": 1.0, "norm3": 0.0}


FAST = ("allcnn_c", "lenet5", "mlp", "mlp_mixer", "preresnet18", "resnet8")


@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=[] if arch in FAST else pytest.mark.slow) for arch in models.names()]
)
def test_init_makes_every_kernel_but_the_classifiers(arch):
    made = []

    def init(key, shape, dtype):
        made.append(shape)
        return jnp.zeros(shape, dtype)

    assert models.create(arch, 10, init="lecun").kernel_init != models.create(arch, 10, init="xavier").kernel_init
    model = models.create(arch, 10).clone(kernel_init=init)
    variables = jax.eval_shape(lambda key: model.init(key, jnp.zeros((1, 32, 32, 3)), train=False), jax.random.key(0))
    paths = jax.tree_util.tree_leaves_with_path(variables["params"])
    kernels = [leaf.shape for path, leaf in paths if path[-1].key == "kernel" and path[0].key != "head"]
    assert sorted(made) == sorted(kernels)


@pytest.mark.parametrize(
    ("arch", "init", "message"),
    [
        ("mlp", "kaiming", "unknown init 'kaiming': did you mean kaiming_fan"),
        ("vgg16_bn", "zero_residual", "init zero_residual does not fit vgg16_bn: choose a resnet or another init"),
    ],
)
def test_init_that_does_not_exist_or_fit_is_refused(arch, init, message):
    with pytest.raises(UserError, match=message):
        models.create(arch, 10, init=init)
