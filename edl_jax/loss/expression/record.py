"""Expressions as data that JSON can hold: what an artifact stores."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from edl_jax.core.errors import UserError, require
from edl_jax.loss.contract import Loss
from edl_jax.loss.expression.loss import expression_loss
from edl_jax.loss.expression.parse import parse
from edl_jax.loss.expression.tree import Expression, check_weights, to_text

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

    def loss(self) -> Loss:
        """Return the loss."""
        return expression_loss(self.expression, self.weights, self.flip)

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
