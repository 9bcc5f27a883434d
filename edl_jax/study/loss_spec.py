"""A loss as one types it in a list of losses: a name or path, and its hyper-parameters."""

import re
from typing import Any, NamedTuple

from edl_jax import loss
from edl_jax.core.config import parse_parameters


class LossSpec(NamedTuple):
    """A loss by name or path.

    Attributes:
      name: name or path, as `edl_jax.loss.get` takes it.
      parameters: `name=number` pairs.
    """

    name: str
    parameters: tuple[str, ...]

    @property
    def hyper_parameters(self) -> dict[str, Any]:
        """Return the hyper-parameters, as `edl_jax.loss.get` takes them."""
        return parse_parameters(self.parameters)

    @property
    def text(self) -> str:
        """Return what one types for it: `poly1:epsilon=2`."""
        return ":".join((self.name, *self.parameters))

    @property
    def title(self) -> str:
        """Return what figures call it."""
        return loss.title(self.name, self.hyper_parameters)

    @property
    def identity(self) -> tuple[str, tuple[tuple[str, Any], ...]]:
        """Return what two spellings of one loss share."""
        return self.name, tuple(sorted(self.hyper_parameters.items()))


def parse_loss(text: str) -> LossSpec:
    """Return the loss of `NAME[:PARAMETER=NUMBER ...]`, such as `poly1:epsilon=2` or `sce:alpha=0.1:beta=1`.

    Raises:
      UserError: a hyper-parameter of another form.
    """
    name, *parameters = re.split(r":(?=\w+=)", text)
    parse_parameters(parameters)
    return LossSpec(loss.canonical_name(name), tuple(parameters))
