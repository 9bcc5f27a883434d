"""Name -> student."""

from collections.abc import Callable

from edl_jax.core.errors import unknown
from edl_jax.search.split import Split
from edl_jax.search.students.base import Student
from edl_jax.search.students.lenet import lenet5
from edl_jax.search.students.linear import linear
from edl_jax.search.students.mlp import mlp
from edl_jax.search.students.nlfs import convnet, resnet9v2

_STUDENTS: dict[str, Callable[[Split], Student]] = {
    "convnet": lambda split: convnet(split.images),
    "lenet5": lambda split: lenet5(split.images),
    "linear": lambda split: linear(split.images, split.train_images),
    "mlp": lambda split: mlp(split.images),
    "mlp_small": lambda split: mlp(split.images, "mlp_small", (64, 64)),
    "resnet9v2": lambda split: resnet9v2(split.images),
}


def names() -> list[str]:
    """Return the names that `create` accepts."""
    return sorted(_STUDENTS)


def create(name: str, split: Split) -> Student:
    """Return the student `name` for the images of a split.

    Raises:
      UserError: an unknown name, or images that the student cannot take.
    """
    if name not in _STUDENTS:
        raise unknown("student", name, names())
    return _STUDENTS[name](split)
