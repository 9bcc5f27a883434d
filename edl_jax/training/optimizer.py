"""Optimizers by name, with their published defaults; schedules are in `edl_jax.training.schedule`."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from edl_jax.core.errors import choose, require
from edl_jax.training.schedule import make_schedule, schedules, warmup_cosine

__all__ = [
    "DEFAULTS",
    "OptimizerDefaults",
    "decay_mask",
    "make_optimizer",
    "make_schedule",
    "optimizers",
    "schedules",
    "sgd",
    "warmup_cosine",
]

_MUON_RMS = 0.2  # root mean square of Muon's updates, that of AdamW's: 2502.16982, section 2.2


class OptimizerDefaults(NamedTuple):
    """What an optimizer is usually run with on image classification.

    Attributes:
      lr: largest learning rate.
      momentum: decay rate of the running mean of gradients.
      weight_decay: coupled for sgd, decoupled for the others.
    """

    lr: float
    momentum: float
    weight_decay: float


DEFAULTS: dict[str, OptimizerDefaults] = {
    "adamw": OptimizerDefaults(1e-3, 0.9, 0.05),
    "lion": OptimizerDefaults(1e-4, 0.9, 0.5),
    "muon": OptimizerDefaults(1e-3, 0.95, 0.05),
    "sgd": OptimizerDefaults(0.1, 0.9, 5e-4),
}


def optimizers() -> tuple[str, ...]:
    """Return the names that `make_optimizer` knows, sorted."""
    return tuple(sorted(DEFAULTS))


def sgd(
    lr: optax.ScalarOrSchedule, *, momentum: float = 0.9, weight_decay: float = 5e-4, decay_all: bool = True
) -> optax.GradientTransformation:
    """Return SGD with Nesterov momentum and coupled weight decay.

    As `torch.optim.SGD(nesterov=True)`: `weight_decay * params` is added to the gradient before momentum,
    for all parameters, biases and the scales of batch normalisation included, unless `decay_all` is False
    (see `decay_mask`).
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=None if decay_all else decay_mask),
        optax.sgd(lr, momentum=momentum or None, nesterov=momentum > 0),
    )


def make_optimizer(
    name: str,
    lr: optax.ScalarOrSchedule,
    *,
    momentum: float | None = None,
    weight_decay: float | None = None,
    clip_norm: float | None = None,
    decay_all: bool = True,
) -> optax.GradientTransformation:
    """Return an optimizer whose updates are added to the parameters.

    Defaults are those of `DEFAULTS`, learning rate, momentum and weight decay:

        adamw  1e-3, 0.9, 0.05   second moment 0.999, epsilon 1e-8 (Loshchilov and Hutter 2019, 1711.05101; rate and
                                 decay of DeiT at a batch of 1024, Touvron et al. 2021, 2012.12877)
        lion   1e-4, 0.9, 0.5    b2 0.99 (Chen et al. 2023, 2302.06675: a tenth of AdamW's rate, ten times its decay)
        muon   1e-3, 0.95, 0.05  Nesterov, 5 Newton-Schulz steps (Jordan et al. 2024, github.com/KellerJordan/Muon);
                                 updates scaled to AdamW's size, so that its rate and decay serve (Liu et al. 2025,
                                 2502.16982, section 2.2)
        sgd    0.1, 0.9, 5e-4    see `sgd`

    Weight decay of adamw, lion and muon is decoupled and multiplied by the learning rate, as in PyTorch.

    Muon is for matrices. A convolution's kernel [H, W, I, O] is taken as the matrix [H * W * I, O]; parameters of any
    other rank (biases, scales, position embeddings, attention kernels stored as [D, heads, D / heads]) go to Adam with
    the first moment's decay 0.9. Muon also gets the matrix of the last layer and the filters of depthwise convolutions,
    for which its author prefers Adam: nothing marks them as such.

    Args:
      name: one of `optimizers()`.
      lr: learning rate, or a schedule of the step.
      momentum: decay rate of the running mean of gradients, in [0, 1); None for the default.
      weight_decay: at least 0; None for the default.
      clip_norm: largest global norm of the gradient, above which it is scaled down to it, before anything else
        (Pascanu et al. 2013, 1211.5063); None for no clipping.
      decay_all: whether biases, scales and embeddings are decayed as well; see `decay_mask`.

    Raises:
      UserError: an unknown name, or a number out of its range.
    """
    name = choose("optimizer", name, DEFAULTS)
    momentum = DEFAULTS[name].momentum if momentum is None else momentum
    weight_decay = DEFAULTS[name].weight_decay if weight_decay is None else weight_decay
    require(0.0 <= momentum < 1.0, f"momentum is {momentum}, expected at least 0 and below 1")
    require(0.0 <= weight_decay < math.inf, f"weight_decay is {weight_decay}, expected 0 or a positive number")
    if name == "sgd":
        optimizer = sgd(lr, momentum=momentum, weight_decay=weight_decay, decay_all=decay_all)
    else:
        optimizer = optax.chain(
            _DIRECTIONS[name](momentum),
            optax.add_decayed_weights(weight_decay, mask=None if decay_all else decay_mask),
            optax.scale_by_learning_rate(lr),
        )
    if clip_norm is None:
        return optimizer
    require(0.0 < clip_norm < math.inf, f"clip_norm is {clip_norm}, expected a positive number")
    return optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)


def decay_mask(params: Any) -> Any:
    """Return which parameters are decayed if not all are: those of rank 2 and 4, the kernels.

    Biases, scales of normalisation, position embeddings and class tokens (rank 1 and 3) are left out, as in timm.
    """
    return jax.tree.map(_is_kernel, params)


def _is_kernel(leaf: Any) -> bool:
    return jnp.ndim(leaf) in (2, 4)  # of a dense layer or a convolution


def _muon(momentum: float) -> optax.GradientTransformation:
    # optax.contrib.muon gives every rank but 2 to Adam with Nesterov momentum, and its decay cannot be masked there.
    return optax.partition(
        {
            "muon": optax.chain(
                optax.contrib.scale_by_muon(beta=momentum, weight_dimension_numbers=_as_matrices),
                optax.stateless(_match_adam),
            ),
            "adam": optax.scale_by_adam(),
        },
        lambda params: jax.tree.map(lambda leaf: "muon" if _is_kernel(leaf) else "adam", params),
    )


def _as_matrices(updates: Any) -> Any:
    """Return the axes of the rows (all but the last) and of the columns (the last) of each kernel."""
    return jax.tree.map(
        lambda leaf: optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1), updates
    )


def _match_adam(updates: Any, params: Any) -> Any:
    """Scale orthogonal matrices to the root mean square that AdamW's updates have."""
    del params

    def scale(leaf: jax.Array) -> jax.Array:
        return _MUON_RMS * math.sqrt(max(leaf.size // leaf.shape[-1], leaf.shape[-1])) * leaf

    return jax.tree.map(scale, updates)


_DIRECTIONS: dict[str, Callable[[float], optax.GradientTransformation]] = {
    "adamw": lambda momentum: optax.scale_by_adam(b1=momentum),
    "lion": lambda momentum: optax.scale_by_lion(b1=momentum),
    "muon": _muon,
}
