"""Wide residual networks: Zagoruyko and Komodakis 2016 (1605.07146), table 1, block type B(3,3).

WRN-d-k has a 3x3 stem of 16 channels and three stages of (d - 4) / 6 pre-activation blocks with 16k, 32k and
64k channels; shortcuts that change shape are 1x1 convolutions. The paper's dropout between the convolutions of
a block (0.3 on CIFAR) is the field `dropout`, 0 by default as in the paper's main results.
"""

from typing import Any

import jax.numpy as jnp

from edl_jax.models.preresnet import PreActResNet


def wide_resnet(
    depth: int, widen: int, num_classes: int, dtype: Any = jnp.float32, *, dropout: float = 0.0
) -> PreActResNet:
    """Return WRN-`depth`-`widen`; `depth` = 6n + 4.

    A `dropout` above 0 needs an rng named dropout in training.
    """
    size, rest = divmod(depth - 4, 6)
    if rest or size < 1:
        raise ValueError(f"depth is {depth}, expected 6n + 4")
    return PreActResNet((size,) * 3, num_classes, width=16 * widen, stem=16, dropout=dropout, dtype=dtype)
