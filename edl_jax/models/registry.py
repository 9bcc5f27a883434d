"""Name -> Flax module."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from edl_jax.core.errors import UserError, choose
from edl_jax.models.alexnet import AlexNet
from edl_jax.models.allcnn import AllCNN
from edl_jax.models.efficientnet import EfficientNetV2
from edl_jax.models.layers import Initializer, kaiming_fan_in, kaiming_fan_out, truncated_normal
from edl_jax.models.lenet import LeNet5
from edl_jax.models.mixer import MLPMixer
from edl_jax.models.mlp import MLP
from edl_jax.models.mobilenet import MobileNetV2
from edl_jax.models.preresnet import PreActResNet, cifar_preresnet
from edl_jax.models.resnet import ResNet, cifar_resnet
from edl_jax.models.vgg import VGG
from edl_jax.models.vit import ViT
from edl_jax.models.wide_resnet import wide_resnet

_MODELS: dict[str, Callable[..., nn.Module]] = {
    "alexnet": AlexNet,
    "allcnn_c": AllCNN,
    "efficientnet_v2_s": EfficientNetV2,
    "lenet5": LeNet5,
    "mlp": MLP,
    "mlp_mixer": MLPMixer,
    "mobilenet_v2": MobileNetV2,
    "preresnet18": partial(PreActResNet, (2, 2, 2, 2)),
    "preresnet110": partial(cifar_preresnet, 110),
    **{f"resnet{depth}": partial(cifar_resnet, depth) for depth in (8, 20, 32, 44, 56, 110)},
    "resnet18": partial(ResNet, (2, 2, 2, 2)),
    "resnet34": partial(ResNet, (3, 4, 6, 3)),
    "resnet50": partial(ResNet, (3, 4, 6, 3), bottleneck=True),
    "vgg16_bn": VGG,
    "vit_tiny": ViT,
    **{f"wrn{depth}_{widen}": partial(wide_resnet, depth, widen) for depth, widen in ((16, 8), (28, 10), (40, 4))},
}

# Other usual names, beside those that differ in case, hyphens and underscores alone.
SYNONYMS = {f"wide_resnet{depth}_{widen}": f"wrn{depth}_{widen}" for depth, widen in ((16, 8), (28, 10), (40, 4))}

_INITS: dict[str, Initializer] = {
    "kaiming_fan_in": kaiming_fan_in,  # He et al. 2015 (1502.01852)
    "kaiming_fan_out": kaiming_fan_out,
    "lecun": nn.initializers.lecun_normal(),  # LeCun et al. 1998, "Efficient BackProp"
    "orthogonal": nn.initializers.orthogonal(2.0**0.5),  # Saxe et al. 2014 (1312.6120), gain of ReLU
    "truncated_normal": truncated_normal,
    "xavier": nn.initializers.xavier_uniform(),  # Glorot and Bengio 2010
}


def names() -> list[str]:
    """Return the names that `create` accepts."""
    return sorted(_MODELS)


def inits() -> list[str]:
    """Return the names that `create` accepts as `init`."""
    return sorted([*_INITS, "default", "zero_residual"])


def create(arch: str, num_classes: int, dtype: Any = jnp.float32, *, init: str = "default") -> nn.Module:
    """Return the Flax module `arch`.

    `module.init(key, images, train=False)` gives the variables; `module.apply(variables, images,
    train=True, mutable=["batch_stats"])` float32 logits [N, num_classes] and new batch statistics. Rates of
    dropout and stochastic depth are 0, so that no further rng is needed; `module.clone(dropout=0.3)` sets those
    that a model has. An image size that a model cannot take is a `UserError` of `init` and `apply`.

    Args:
      arch: one of `names()`.
      num_classes: number of logits, at least 2.
      dtype: of the computation; parameters and batch statistics are float32.
      init: one of `inits()`: the initialiser of every kernel but the classifier's; `default` is the one customary
        for `arch`; `zero_residual`, for ResNets, the default with every residual branch scaled by 0 at first.

    Raises:
      UserError: unknown `arch` or `init`, fewer than 2 classes, or an `init` that `arch` does not have.
    """
    arch, init = choose("arch", arch, names(), SYNONYMS), choose("init", init, inits())
    if num_classes < 2:
        raise UserError(f"num_classes is {num_classes}, expected at least 2")
    module = _MODELS[arch](num_classes=num_classes, dtype=dtype)
    if init in _INITS:
        return module.clone(kernel_init=_INITS[init])
    if init == "zero_residual":
        if not hasattr(module, "zero_residual"):
            raise UserError(f"init zero_residual does not fit {arch}: choose a resnet or another init")
        return module.clone(zero_residual=True)
    return module
