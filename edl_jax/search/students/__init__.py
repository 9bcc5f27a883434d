"""Students: small classifiers of which a search trains many at once, one for each candidate."""

from edl_jax.search.students.base import Student
from edl_jax.search.students.config import StudentConfig
from edl_jax.search.students.evaluate import Evaluator, Score
from edl_jax.search.students.registry import create, names
from edl_jax.search.students.train import Examples, Population, Trainer, bucket

__all__ = [
    "Evaluator",
    "Examples",
    "Population",
    "Score",
    "Student",
    "StudentConfig",
    "Trainer",
    "bucket",
    "create",
    "names",
]
