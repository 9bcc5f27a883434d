import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax import models
from edl_jax.errors import UserError

# Trainable parameters at 10 classes: He et al. 2015, table 6 (0.27M, 0.46M, 0.66M, 0.85M, 1.7M) to the last
# digit, kuangliu/pytorch-cifar for ResNet-18/34/50, LeNet-5 with dense 400-120-84.
PUBLISHED = [
    ("resnet8", (32, 32, 3), 75_290),
    ("resnet20", (32, 32, 3), 269_722),
    ("resnet32", (32, 32, 3), 464_154),
    ("resnet44", (32, 32, 3), 658_586),
    ("resnet56", (32, 32, 3), 853_018),
    ("resnet110", (32, 32, 3), 1_727_962),
    ("resnet18", (32, 32, 3), 11_173_962),
    ("resnet34", (32, 32, 3), 21_282_122),
    ("resnet50", (32, 32, 3), 23_520_842),
    ("lenet5", (28, 28, 1), 61_706),
    ("lenet5", (32, 32, 3), 62_006),
    ("mlp", (28, 28, 1), 784 * 128 + 128 + 128 * 128 + 128 + 1290),
]


def archs(fast):
    """Return all archs, those but `fast` in the slow tier: deep ones take long to trace and compile."""
    return [pytest.param(name, marks=[] if name in fast else pytest.mark.slow) for name in models.names()]


KINDS = ("mlp", "lenet5", "resnet8", "resnet18", "resnet50")


def shapes(model, image_shape):
    return jax.eval_shape(lambda key: model.init(key, jnp.zeros((1, *image_shape)), train=False), jax.random.key(0))


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(("arch", "image_shape", "expected"), PUBLISHED)
def test_parameter_count_is_the_published_one(arch, image_shape, expected):
    assert count(shapes(models.create(arch, 10), image_shape)["params"]) == expected


def test_every_arch_has_a_published_count():
    assert {arch for arch, _, _ in PUBLISHED} == set(models.names())


@pytest.mark.parametrize("arch", archs(fast=KINDS))
@pytest.mark.parametrize("image_shape", [(1, 1, 1), (33, 14, 2)])
def test_any_image_shape_and_number_of_classes(arch, image_shape):
    model = models.create(arch, 7)
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    logits = jax.eval_shape(
        lambda x: model.apply(model.init(jax.random.key(0), x, train=False), x, train=False), images
    )
    assert logits.shape == (2, 7)
    assert logits.dtype == jnp.float32


@pytest.mark.parametrize("arch", archs(fast=KINDS))
def test_bfloat16_computes_low_but_stores_high(arch):
    model = models.create(arch, 10, jnp.bfloat16)
    images = jnp.zeros((2, 8, 8, 1))
    variables = shapes(model, (8, 8, 1))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}

    def train(v):
        return model.apply(v, images, train=True, mutable=["batch_stats"], capture_intermediates=True)

    logits, updated = jax.eval_shape(train, variables)
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updated.get("batch_stats", {}))} <= {jnp.dtype(jnp.float32)}
    first = "dense1" if arch == "mlp" else "conv1" if arch == "lenet5" else "stem"
    assert updated["intermediates"][first]["__call__"][0].dtype == jnp.bfloat16


@pytest.mark.parametrize("arch", archs(fast=("mlp", "lenet5", "resnet8")))
def test_gradient_reaches_every_parameter(arch, key):
    model = models.create(arch, 3)
    images = jax.random.normal(key, (4, 8, 8, 1))
    variables = jax.jit(lambda k: model.init(k, images, train=False))(key)

    @jax.jit
    def gradient(params):
        def objective(params):
            logits, _ = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            return jnp.sum(jax.nn.log_softmax(logits)[:, 0])

        return jax.grad(objective)(params)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(variables["params"])):
        assert np.all(np.isfinite(leaf)), path
        assert np.any(np.asarray(leaf) != 0), path


def test_batch_norm_uses_the_batch_in_training_and_the_running_statistics_in_evaluation(key):
    model = models.create("resnet8", 10)
    images = 3.0 + 2.0 * jax.random.normal(key, (16, 8, 8, 1))
    variables = jax.jit(lambda k: model.init(k, images, train=False))(key)
    train = jax.jit(lambda v: model.apply(v, images, train=True, mutable=["batch_stats"]))
    evaluate = jax.jit(lambda v: model.apply(v, images, train=False))
    logits, updated = train(variables)
    assert not np.allclose(logits, evaluate(variables), atol=1e-2)
    # One step at momentum 0.9 moves the running mean by a tenth of the batch's mean.
    stem = jax.lax.conv_general_dilated(
        images,
        variables["params"]["stem"]["kernel"],
        (1, 1),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(
        updated["batch_stats"]["stem_norm"]["mean"], 0.1 * stem.mean((0, 1, 2)), rtol=1e-4, atol=1e-5
    )
    for _ in range(100):
        _, updated = train({**variables, **updated})
    np.testing.assert_allclose(evaluate({**variables, **updated}), logits, rtol=0.02, atol=0.02)


def test_option_a_shortcut_subsamples_and_pads_channels():
    from edl_jax.models.resnet import pad_shortcut

    inputs = jnp.arange(1 * 5 * 5 * 2, dtype=jnp.float32).reshape(1, 5, 5, 2)
    out = pad_shortcut(inputs, 4, 2)
    assert out.shape == (1, 3, 3, 4)
    np.testing.assert_array_equal(out[..., 1:3], inputs[:, ::2, ::2])
    np.testing.assert_array_equal(out[..., [0, 3]], 0)


def test_convolutions_start_with_kaiming_fan_out_variance(key):
    model = models.create("resnet8", 10)
    params = jax.jit(lambda k: model.init(k, jnp.zeros((1, 8, 8, 1)), train=False))(key)["params"]
    kernel = np.asarray(params["stage3_block1"]["conv2"]["kernel"])
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.02)


@pytest.mark.parametrize(
    ("arch", "message"), [("resnet19", "unknown arch 'resnet19': did you mean resnet"), ("vgg", "unknown arch 'vgg'")]
)
def test_unknown_arch_lists_the_closest(arch, message):
    with pytest.raises(UserError, match=message):
        models.create(arch, 10)


def test_fewer_than_two_classes_are_refused():
    with pytest.raises(UserError, match="num_classes is 1, expected at least 2"):
        models.create("mlp", 1)


@pytest.mark.parametrize("arch", ["mlp", "lenet5", "resnet8"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (2, 0, 8, 1)])
def test_images_of_another_rank_or_empty_are_refused_by_name(arch, shape):
    with pytest.raises(UserError, match=r"expected \[N, H, W, C\]"):
        models.create(arch, 10).init(jax.random.key(0), jnp.zeros(shape), train=False)
