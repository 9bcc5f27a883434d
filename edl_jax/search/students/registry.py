"""Name -> student."""

from collections.abc import Callable

from edl_jax.core.errors import require, unknown
from edl_jax.search.split import Split
from edl_jax.search.students.base import Student
from edl_jax.search.students.lenet import lenet5
from edl_jax.search.students.linear import linear
from edl_jax.search.students.mlp import SMALL, mlp, regressor
from edl_jax.search.students.nlfs import convnet, resnet9v2
from edl_jax.search.tabular import TabularSplit

_STUDENTS: dict[str, Callable[[Split], Student]] = {
    "convnet": lambda split: convnet(split.images),
    "lenet5": lambda split: lenet5(split.images),
    "linear": lambda split: linear(split.images, split.train_images),
    "mlp": lambda split: mlp(split.images),
    "mlp_small": lambda split: mlp(split.images, "mlp_small", SMALL),
    "resnet9v2": lambda split: resnet9v2(split.images),
}
_OF_TABLES: dict[str, Callable[[TabularSplit], Student]] = {
    "mlp": lambda split: regressor(split.features),
    "mlp_small": lambda split: regressor(split.features, "mlp_small", SMALL),
}


def names() -> list[str]:
    """Return the names that `create` accepts."""
    return sorted(_STUDENTS)


def create(name: str, split: Split | TabularSplit) -> Student:
    """Return the student `name` for the images, or the table, of a split.

    Raises:
      UserError: an unknown name, images that the student cannot take, or a table where it takes images alone.
    """
    if name not in _STUDENTS:
        raise unknown("student", name, names())
    if isinstance(split, TabularSplit):
        require(
            name in _OF_TABLES,
            f"student {name} takes images, and {split.name} is a table: choose {' or '.join(_OF_TABLES)}",
        )
        return _OF_TABLES[name](split)
    return _STUDENTS[name](split)
