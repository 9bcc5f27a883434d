from functools import partial

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax import models
from edl_jax.core.errors import UserError
from edl_jax.models.resnet import ResNet, pad_shortcut

# The smallest side that an arch takes, where it is not 1; for the two of patches, the patch.
SIDES = {"alexnet": 29, "allcnn_c": 9, "vgg16_bn": 32, "vit_tiny": 4, "mlp_mixer": 4}


def archs(fast):
    """Return all archs, those but `fast` in the slow tier: deep ones take long to trace and compile."""
    return [pytest.param(name, marks=[] if name in fast else pytest.mark.slow) for name in models.names()]


KINDS = (
    *("mlp", "lenet5", "resnet8", "resnet18", "resnet50", "preresnet18", "vgg16_bn", "allcnn_c", "alexnet"),
    *("mobilenet_v2", "vit_tiny", "mlp_mixer"),
)


# Blocks that repeat are traced once or twice, not up to twelve times.
SHALLOW = {
    **{arch: {"depth": 2} for arch in ("vit_tiny", "mlp_mixer")},
    **{arch: {"stage_sizes": (1, 2)} for arch in ("resnet18", "resnet50", "preresnet18")},
}


def shallow(arch, *args, **fields):
    return models.create(arch, *args).clone(**SHALLOW.get(arch, {}), **fields)


def shapes(model, image_shape):
    return jax.eval_shape(lambda key: model.init(key, jnp.zeros((1, *image_shape)), train=False), jax.random.key(0))


def leaves(tree):
    return jax.tree_util.tree_leaves_with_path(tree)


@pytest.mark.parametrize("arch", archs(fast=KINDS))
def test_the_smallest_image_and_any_number_of_classes(arch):
    model = shallow(arch, 7)
    side = SIDES.get(arch, 1)
    images = jax.ShapeDtypeStruct((2, side, side, 1), jnp.float32)
    logits, _ = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, train=False), images)
    assert logits.shape == (2, 7)
    assert logits.dtype == jnp.float32


@pytest.mark.parametrize("arch", archs(fast=KINDS))
def test_bfloat16_computes_low_but_stores_high(arch):
    model = shallow(arch, 10, jnp.bfloat16)
    images = jnp.zeros((2, 36, max(16, SIDES.get(arch, 1)), 2))  # neither square nor of usual channels
    variables = shapes(model, images.shape[1:])
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}

    def train(v):
        return model.apply(v, images, train=True, mutable=["batch_stats"], capture_intermediates=True)

    logits, updated = jax.eval_shape(train, variables)
    assert (logits.shape, logits.dtype) == ((2, 10), jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(updated.get("batch_stats", {}))} <= {jnp.dtype(jnp.float32)}
    low = {path[0].key for path, leaf in leaves(updated["intermediates"]) if leaf.dtype == jnp.bfloat16}
    high = {path[0].key for path, leaf in leaves(updated["intermediates"]) if leaf.dtype == jnp.float32}
    # Float32 are the logits and what is done to the averaged features, or to the one token that a ViT reads.
    assert high - {"Dropout_0"} == {"__call__", "head"} | ({"norm"} if arch == "vit_tiny" else set())
    assert len(low) >= 2


# Two blocks, of which one changes the shape: what compiles in a quarter of the time of a ResNet-8.
SMALL_RESNET = ResNet((1, 1), 3, width=4, projection=False)


def start(model, images):
    """Return variables as they usually start, drawn by NumPy: nothing is compiled."""
    rng, constant = np.random.default_rng(0), {"bias": 0, "mean": 0, "scale": 1, "var": 1}

    def draw(path, leaf):
        name = path[-1].key
        if name in constant:
            return np.full(leaf.shape, constant[name], np.float32)
        return rng.normal(scale=np.prod(leaf.shape[:-1]) ** -0.5, size=leaf.shape).astype(np.float32)

    variables = jax.eval_shape(lambda key: model.init(key, images, train=False), jax.random.key(0))
    return jax.tree_util.tree_map_with_path(draw, variables)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(SMALL_RESNET, id="small resnet"),
        *(
            pytest.param(models.create(name, 3), marks=[] if name == "mlp" else pytest.mark.slow, id=name)
            for name in models.names()
        ),
    ],
)
def test_gradient_reaches_every_parameter(model, request):
    side = max(8, SIDES.get(request.node.callspec.id, 1))
    images = np.random.default_rng(1).normal(size=(4, side, side, 1)).astype(np.float32)
    variables = start(model, images)

    @jax.jit
    def gradient(params):
        def objective(params):
            logits, _ = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            return jnp.sum(jax.nn.log_softmax(logits)[:, 0])

        return jax.grad(objective)(params)

    for path, leaf in leaves(gradient(variables["params"])):
        assert np.all(np.isfinite(leaf)), path
        assert np.any(np.asarray(leaf) != 0), path


def test_batch_norm_uses_the_batch_in_training_and_the_running_statistics_in_evaluation():
    model = SMALL_RESNET
    images = (3.0 + 2.0 * np.random.default_rng(0).normal(size=(16, 8, 8, 1))).astype(np.float32)
    variables = start(model, images)
    train = jax.jit(lambda v: model.apply(v, images, train=True, mutable=["batch_stats"]))
    evaluate = jax.jit(lambda v: model.apply(v, images, train=False))
    logits, updated = train(variables)
    assert not np.allclose(logits, evaluate(variables), atol=1e-2)
    # One step at momentum 0.9 moves the running mean by a tenth of the batch's mean.
    kernel, padded = variables["params"]["stem"]["kernel"], np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded[..., 0], (3, 3), axis=(1, 2))
    mean = np.einsum("nhwij,ijo->nhwo", windows, kernel[:, :, 0]).mean((0, 1, 2))
    np.testing.assert_allclose(updated["batch_stats"]["stem_norm"]["mean"], 0.1 * mean, rtol=1e-4, atol=1e-5)
    for _ in range(100):
        _, updated = train({**variables, **updated})
    np.testing.assert_allclose(evaluate({**variables, **updated}), logits, rtol=0.02, atol=0.02)


def test_option_a_shortcut_subsamples_and_pads_channels():
    inputs = np.arange(1 * 5 * 5 * 2, dtype=np.float32).reshape(1, 5, 5, 2)
    out = np.asarray(jax.jit(lambda x: pad_shortcut(x, 4, 2))(inputs))
    assert out.shape == (1, 3, 3, 4)
    np.testing.assert_array_equal(out[..., 1:3], inputs[:, ::2, ::2])
    np.testing.assert_array_equal(out[..., [0, 3]], 0)


def test_convolutions_start_with_kaiming_fan_out_variance(key):
    model = models.create("resnet8", 10)

    @jax.jit
    def draw(key):
        return model.init(key, jnp.zeros((1, 8, 8, 1)), train=False)["params"]["stage3_block1"]["conv2"]["kernel"]

    kernel = np.asarray(draw(key))
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.02)


@pytest.mark.parametrize(
    ("arch", "message"), [("resnet19", "unknown arch 'resnet19': did you mean resnet"), ("swin", "unknown arch 'swin'")]
)
def test_unknown_arch_lists_the_closest(arch, message):
    with pytest.raises(UserError, match=message):
        models.create(arch, 10)


def test_fewer_than_two_classes_are_refused():
    with pytest.raises(UserError, match="num_classes is 1, expected at least 2"):
        models.create("mlp", 1)


@pytest.mark.parametrize("arch", models.names())
@pytest.mark.parametrize("shape", [(8, 8, 1), (2, 0, 8, 1)])
def test_images_of_another_rank_or_empty_are_refused_by_name(arch, shape):
    with pytest.raises(UserError, match=r"expected \[N, H, W, C\]"):
        models.create(arch, 10).init(jax.random.key(0), jnp.zeros(shape), train=False)


@pytest.mark.parametrize(
    ("arch", "size", "message"),
    [
        ("vgg16_bn", (28, 40), "images are 28x40 pixels, expected at least 32x32 for VGG: resize them"),
        ("alexnet", (28, 28), "images are 28x28 pixels, expected at least 29x29 for AlexNet"),
        ("allcnn_c", (8, 9), "images are 8x9 pixels, expected at least 9x9 for All-CNN-C"),
        ("vit_tiny", (32, 30), "images are 32x30 pixels, expected sides that are multiples of the patch of 4"),
        ("mlp_mixer", (3, 4), "images are 3x4 pixels, expected sides that are multiples of the patch of 4"),
    ],
)
def test_image_size_that_an_arch_cannot_take_is_refused(arch, size, message):
    with pytest.raises(UserError, match=message):
        models.create(arch, 10).init(jax.random.key(0), jnp.zeros((1, *size, 3)), train=False)


@pytest.mark.parametrize("arch", archs(fast=SIDES))
def test_fashion_mnist_size_is_taken_or_refused_by_name(arch):
    model = models.create(arch, 10)
    if SIDES.get(arch, 1) > 28:
        with pytest.raises(UserError, match="images are 28x28 pixels"):
            shapes(model, (28, 28, 1))
    else:
        assert shapes(model, (28, 28, 1))["params"]["head"]["bias"].shape == (10,)


@pytest.mark.parametrize(
    ("arch", "field"),
    [
        pytest.param("wrn16_8", "dropout", marks=pytest.mark.slow),
        ("preresnet18", "dropout"),
        ("allcnn_c", "dropout"),
        ("allcnn_c", "input_dropout"),
        pytest.param("efficientnet_v2_s", "dropout", marks=pytest.mark.slow),
        pytest.param("efficientnet_v2_s", "drop_path", marks=pytest.mark.slow),
        pytest.param("vit_tiny", "dropout", marks=pytest.mark.slow),
        ("vit_tiny", "drop_path"),
        pytest.param("mlp_mixer", "drop_path", marks=pytest.mark.slow),
    ],
)
def test_dropout_is_drawn_in_training_alone_and_only_where_it_is_asked_for(arch, field):
    images = jnp.zeros((2, 32, 32, 3))
    variables = shapes(shallow(arch, 10), images.shape[1:])
    model = shallow(arch, 10, **{field: 0.5})

    def run(train, **rngs):
        apply = partial(model.apply, train=train, mutable=["batch_stats"], rngs=rngs)
        return jax.eval_shape(lambda v: apply(v, images)[0], variables)

    assert run(train=True, dropout=jax.random.key(0)).shape == (2, 10)
    assert run(train=False).shape == (2, 10)
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        run(train=True)
