"""Losses from expressions, and the record of one: the value that is compared, and the data that an artifact stores."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from edl_jax.core.errors import UserError, require
from edl_jax.loss.contract import Targets
from edl_jax.loss.expression.evaluate import compile_function
from edl_jax.loss.expression.loss import expression_values, split_logarithms
from edl_jax.loss.expression.parse import parse
from edl_jax.loss.expression.tree import Expression, check_weights, to_text
from edl_jax.loss.function import LossFunction

_KEYS = ("formula", "weights", "flip")


class Record(NamedTuple):
    """An expression loss: the arguments of `expression_loss`.

    Attributes:
      expression: the expression.
      weights: `[size]` edge weights, or None.
      flip: whether the loss is the negative of the expression.
    """

    expression: Expression
    weights: tuple[float, ...] | None = None
    flip: bool = False

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Return no hyper-parameters: the numbers of an expression are part of it."""
        return {}

    @property
    def of_p_t(self) -> bool:
        """Return False: the values of all classes are summed."""
        return False

    @property
    def is_one_program(self) -> bool:
        """Return True: outside jit each operator would be a program."""
        return True

    @property
    def formula(self) -> str:
        """Return the loss as a formula."""
        weighted = "" if self.weights is None else " with weighted edges"
        return f"{'-' if self.flip else ''}sum_c [{to_text(self.expression)}]{weighted}"

    def values(self, t: Targets) -> jax.Array:
        """Return the values `[...]` before weights and masks."""
        if self.weights is None:
            function = compile_function(split_logarithms(self.expression))
        else:
            function = compile_function(self.expression, np.asarray(self.weights))
        raw = expression_values(t, function)
        return -raw if self.flip else raw

    def loss(self) -> LossFunction:
        """Return the loss."""
        return LossFunction(self, "formula", self.formula, "a formula")

    def to_dict(self) -> dict[str, Any]:
        """Return `{"formula": text, "weights": list or None, "flip": bool}`: exact, numbers included."""
        weights = None if self.weights is None else check_weights(self.expression, self.weights)
        return {"formula": to_text(self.expression), "weights": weights, "flip": bool(self.flip)}

    @classmethod
    def from_dict(cls, data: Any) -> "Record":
        """Return the record that `to_dict` gave.

        Raises:
          FormulaError: the formula does not parse.
          UserError: keys or values are missing or of another kind.
        """
        require(
            isinstance(data, Mapping) and set(data) <= set(_KEYS) and isinstance(data.get("formula"), str),
            f"an expression is stored as formula (text), weights and flip, got {data!r:.80}",
        )
        expression = parse(data["formula"])
        weights, flip = data.get("weights"), data.get("flip", False)
        require(isinstance(flip, bool), f"flip is {flip!r}, expected true or false")
        if weights is None:
            return cls(expression, None, flip)
        try:
            return cls(expression, tuple(check_weights(expression, weights)), flip)
        except (TypeError, ValueError) as error:
            raise UserError(f"weights are {weights!r:.80}, expected numbers, one for each node") from error


def expression_loss(
    expression: str | Expression, weights: Sequence[float] | None = None, flip: bool = False
) -> LossFunction:
    """Return the loss `sum_c expression(y_c, p_c)`, over the classes that exist, as EvoMAL and NLFS define it.

        ce = expression_loss("-y * ln(p)")

    The expression is evaluated class by class: y is 1 for the true class and 0 for the others, or the label
    probability. Soft labels enter as they are, so that the loss is the label-weighted mean only where the expression
    is affine in y. A class or example that does not exist contributes nothing, whatever the expression is at p = 0.
    `ln(p)`, `ln(1 - p)` and `ln(c p)`, `ln(p / c)` for a number c > 0 are exact and keep their slope at any gap
    between logits.

    Args:
      expression: a formula, or an expression.
      weights: `[size]`, one for each edge, as in `Program`; None for none.
      flip: whether to change the sign of the loss, as NLFS does for expressions that are to be maximised.

    Returns:
      A loss: see `Loss` for arguments, shapes, dtypes and errors.

    Raises:
      FormulaError: the formula does not parse.
      UserError: the weights are not one finite number a node.

    References:
      Raymond et al., Learning Symbolic Model-Agnostic Loss Functions via Meta-Learning, 2023, arXiv 2209.08907.
      Morgan and Hougen, Neural Loss Function Evolution for Large-Scale Image Classifier Convolutional Neural
      Networks, 2024, arXiv 2403.08793.
    """
    tree = parse(expression) if isinstance(expression, str) else expression
    checked = None if weights is None else tuple(check_weights(tree, weights))
    return Record(tree, checked, bool(flip)).loss()
