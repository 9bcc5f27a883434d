"""Known losses as formulas, which can be put on any scale."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from edl_jax import loss
from edl_jax.core.errors import UserError

# (hyper-parameters, C) -> the loss
_FORMULAS: dict[str, Callable[[Mapping[str, Any], int], str]] = {
    "ace": lambda h, _: f"{_n(h['phi0'])} * y * abs(ln({_n(h['phi1'])} * p))",
    "brier": lambda h, _: "(p - y)^2",
    "cross_entropy": lambda h, _: "-y * ln(p)",
    "focal": lambda h, _: f"-y * (1 - p)^{_n(h['gamma'])} * ln(p)",
    "gce": lambda h, _: f"y * (1 - p^{_n(h['q'])}) / {_n(h['q'])}",
    "label_smoothing": lambda h, c: f"-({_n(1.0 - h['alpha'])} * y + {_n(h['alpha'] / c)}) * ln(p)",
    "mae": lambda h, _: "y * (1 - p)",
    "poly1": lambda h, _: f"-y * ln(p) + {_n(h['epsilon'])} * y * (1 - p)",
    "sce": lambda h, _: f"-{_n(h['alpha'])} * y * ln(p) + {_n(-h['beta'] * math.log(h['clip']))} * y * (1 - p)",
    "taylor_cross_entropy": lambda h, _: " + ".join(f"y * (1 - p)^{j} / {j}" for j in range(1, int(h["order"]) + 1)),
}
NAMES = tuple(_FORMULAS)
"""Losses of the zoo that have a formula."""


def formula_of(name: str, parameters: Mapping[str, Any], num_classes: int) -> str:
    """Return a loss of the zoo as a formula in y and p, summed over the classes.

    Args:
      name: in the zoo.
      parameters: hyper-parameters; the others are at their defaults.
      num_classes: C.

    Raises:
      UserError: a hyper-parameter that the loss does not take, or a loss without a formula.
    """
    every = loss.get(name, **parameters).parameters
    if name not in _FORMULAS or every.get("k") is not None:
        raise UserError(
            f"loss {name} has no formula here, by which it is put on one scale with the others: expected one of "
            f"{', '.join(NAMES)}, a formula in y and p, or a learned loss"
        )
    return _FORMULAS[name](every, num_classes)


def _n(value: float) -> str:
    text = repr(float(value))
    return f"({text})" if value < 0.0 else text
