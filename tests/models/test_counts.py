"""Parameter counts beside the published numbers and, of most, a sum over layers made apart from the models' code."""

import jax
import jax.numpy as jnp
import pytest

from edl_jax import models
from edl_jax.models.mixer import MLPMixer
from edl_jax.models.vit import ViT


def conv(inputs, outputs, size, bias=False):
    return inputs * outputs * size**2 + bias * outputs


def norm(channels):
    return 2 * channels


def dense(inputs, outputs):
    return inputs * outputs + outputs


def preact(stem, widths, blocks, projection):
    """Return the count of a pre-activation network of basic blocks; `projection` is that of shortcuts."""
    total, channels = conv(3, stem, 3), stem
    for width in widths:
        for _ in range(blocks):
            total += norm(channels) + conv(channels, width, 3) + norm(width) + conv(width, width, 3)
            total += projection * (channels != width) * channels * width
            channels = width
    return total + norm(channels) + dense(channels, 10)


def wrn(depth, widen):
    return preact(16, (16 * widen, 32 * widen, 64 * widen), (depth - 4) // 6, projection=True)


def vgg16():
    total, channels = 0, 3
    for width in (64, 64, 128, 128, 256, 256, 256, *[512] * 6):
        total += conv(channels, width, 3, bias=True) + norm(width)
        channels = width
    return total + dense(512, 10)


def allcnn():
    total = conv(3, 96, 3, True) + 2 * conv(96, 96, 3, True) + conv(96, 192, 3, True)
    return total + 3 * conv(192, 192, 3, True) + conv(192, 192, 1, True) + conv(192, 10, 1, True)


def alexnet():
    total = conv(3, 64, 11, True) + conv(64, 192, 5, True) + conv(192, 384, 3, True)
    return total + conv(384, 256, 3, True) + conv(256, 256, 3, True) + dense(256, 10)


def mobilenet():
    total, channels = conv(3, 32, 3) + norm(32), 32
    table = [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]
    for expansion, width, blocks in table:
        for _ in range(blocks):
            hidden = expansion * channels
            total += channels * hidden + norm(hidden) + 9 * hidden + norm(hidden) + hidden * width + norm(width)
            if channels != width and width in (16, 24, 96, 320):  # stages of stride 1
                total += channels * width + norm(width)
            channels = width
    return total + 320 * 1280 + norm(1280) + dense(1280, 10)


def efficientnet(classes):
    total, channels = conv(3, 24, 3) + norm(24), 24
    total += 2 * (conv(24, 24, 3) + norm(24))
    for width, blocks in ((48, 4), (64, 4)):
        for _ in range(blocks):
            hidden = 4 * channels
            total += conv(channels, hidden, 3) + norm(hidden) + hidden * width + norm(width)
            channels = width
    for expansion, width, blocks in ((4, 128, 6), (6, 160, 9), (6, 256, 15)):
        for _ in range(blocks):
            hidden, squeezed = expansion * channels, channels // 4
            total += channels * hidden + norm(hidden) + 9 * hidden + norm(hidden)
            total += dense(hidden, squeezed) + dense(squeezed, hidden) + hidden * width + norm(width)
            channels = width
    return total + 256 * 1280 + norm(1280) + dense(1280, classes)


def vit(side, patch, classes, width=192, depth=12):
    tokens = (side // patch) ** 2 + 1
    block = dense(width, 3 * width) + dense(width, width) + dense(width, 4 * width) + dense(4 * width, width)
    block += 2 * norm(width)
    return dense(3 * patch**2, width) + width + tokens * width + depth * block + norm(width) + dense(width, classes)


def mixer(side, patch, classes, width, token_hidden, feature_hidden, depth=8):
    tokens = (side // patch) ** 2
    block = dense(tokens, token_hidden) + dense(token_hidden, tokens)
    block += dense(width, feature_hidden) + dense(feature_hidden, width) + 2 * norm(width)
    return dense(3 * patch**2, width) + depth * block + norm(width) + dense(width, classes)


# (arch, shape of an image, its layers added up, published number) at 10 classes. He et al. 2015, table 6 (0.27M,
# 0.46M, 0.66M, 0.85M, 1.7M) to the last digit, kuangliu/pytorch-cifar for ResNet-18/34/50.
PUBLISHED = [
    ("resnet8", (32, 32, 3), None, 75_290),
    ("resnet20", (32, 32, 3), None, 269_722),
    ("resnet32", (32, 32, 3), None, 464_154),
    ("resnet44", (32, 32, 3), None, 658_586),
    ("resnet56", (32, 32, 3), None, 853_018),
    ("resnet110", (32, 32, 3), None, 1_727_962),
    ("resnet18", (32, 32, 3), None, 11_173_962),
    ("resnet34", (32, 32, 3), None, 21_282_122),
    ("resnet50", (32, 32, 3), None, 23_520_842),
    ("lenet5", (28, 28, 1), None, 61_706),
    ("lenet5", (32, 32, 3), None, 62_006),
    ("mlp", (28, 28, 1), dense(784, 128) + dense(128, 128) + dense(128, 10), 118_282),
    ("alexnet", (32, 32, 3), alexnet(), 2_472_266),  # bearpaw/pytorch-classification: 2.47M
    ("allcnn_c", (32, 32, 3), allcnn(), 1_369_738),  # the paper: 1.4M
    ("efficientnet_v2_s", (32, 32, 3), efficientnet(10), 20_190_298),
    ("mlp_mixer", (32, 32, 3), mixer(32, 4, 10, 128, 64, 512), 1_132_170),
    ("mobilenet_v2", (32, 32, 3), mobilenet(), 2_296_922),  # kuangliu/pytorch-cifar
    # kuangliu/pytorch-cifar has 11,171,146: it lacks the paper's normalisation after the last block.
    ("preresnet18", (32, 32, 3), preact(64, (64, 128, 256, 512), 2, projection=True), 11_171_146 + 2 * 512),
    ("preresnet110", (32, 32, 3), preact(16, (16, 32, 64), 18, projection=False), 1_727_962),  # the paper: 1.7M
    ("vgg16_bn", (32, 32, 3), vgg16(), 14_728_266),  # kuangliu/pytorch-cifar
    ("vit_tiny", (32, 32, 3), vit(32, 4, 10), 5_362_762),
    ("wrn16_8", (32, 32, 3), wrn(16, 8), 10_961_370),  # the paper: 11.0M
    ("wrn28_10", (32, 32, 3), wrn(28, 10), 36_479_194),  # the paper: 36.5M
    ("wrn40_4", (32, 32, 3), wrn(40, 4), 8_949_210),  # the paper: 8.9M
]


# A smaller network of each stays in the fast tier.
DEEP = ("resnet32", "resnet44", "resnet56", "resnet110", "resnet34", "preresnet110", "wrn28_10", "wrn40_4")


@pytest.mark.parametrize(
    ("arch", "image_shape", "layers", "published"),
    [pytest.param(*case, marks=pytest.mark.slow if case[0] in DEEP else []) for case in PUBLISHED],
)
def test_parameter_count_is_the_published_one(arch, image_shape, layers, published):
    assert layers in (None, published)
    assert count(models.create(arch, 10), image_shape) == published


def test_every_arch_has_a_published_count():
    assert {arch for arch, *_ in PUBLISHED} == set(models.names())


@pytest.mark.parametrize(
    ("module", "expected", "published"),
    [
        # At ImageNet's size: torchvision's EfficientNetV2-S, DeiT-Ti/16 and Mixer-S/16 of timm.
        (models.create("efficientnet_v2_s", 1000), efficientnet(1000), 21_458_488),
        (ViT(1000, patch=16), vit(224, 16, 1000), 5_717_416),
        (
            MLPMixer(1000, patch=16, width=512, token_hidden=256, feature_hidden=2048),
            mixer(224, 16, 1000, 512, 256, 2048),
            18_528_264,
        ),
    ],
)
def test_count_at_imagenet_size_is_the_published_one(module, expected, published):
    assert expected == published
    assert count(module, (224, 224, 3)) == expected


def count(module, image_shape):
    images = jnp.zeros((1, *image_shape))
    variables = jax.eval_shape(lambda key: module.init(key, images, train=False), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
