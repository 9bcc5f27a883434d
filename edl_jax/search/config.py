"""Settings of a search."""

import dataclasses
from typing import Self

from edl_jax.core.errors import require, settle
from edl_jax.loss.expression import Expression, evomal
from edl_jax.search import students
from edl_jax.search.gp import GPConfig, init
from edl_jax.search.local_search import METHODS as LOCAL_SEARCHES, LocalSearchConfig
from edl_jax.search.nlfs import NLFSConfig, parse as parse_genomes
from edl_jax.search.racing import RacingConfig, full
from edl_jax.search.rejection import RejectionConfig
from edl_jax.search.taylorglo import TaylorConfig

METHODS: dict[str, tuple[str, ...]] = {
    "evomal": LOCAL_SEARCHES,
    "gp_lfl": ("none",),
    "taylorglo": ("none",),
    "ml3": ("linearised", "matrix_free", "exact", "guarded"),
    "nlfs": ("none",),
}
"""Name -> local searches that it may have, the first of them by default."""
FILTER_ORDERS = ("fast", "paper")


@dataclasses.dataclass(frozen=True)
class SearchConfig(students.StudentConfig):
    """What to search for, and on what. The defaults search as far as EvoMAL's paper does, by a shorter way."""

    method: str = "evomal"
    """evomal and gp_lfl (genetic programming with and without local search), taylorglo, ml3, or nlfs."""
    dataset: str = "fashion_mnist"
    """Data set whose official training images are split in two; its test images are not read."""
    seed: int = 0
    """Seed of the split, the first weights, the batches and the candidates."""
    train_size: int | None = None
    """Examples of both parts together (default: all)."""
    validation: float = 0.1
    """Share of the examples that fitness is measured on."""
    race: bool = True
    """Whether candidates that fall behind end early; else all are trained in full, as the papers do."""
    racing: RacingConfig = dataclasses.field(default_factory=RacingConfig)
    """Race."""
    local_search: str = "auto"
    """Descent on a candidate's parameters: linearised, matrix_free (linearised without kernels), exact, guarded (exact
    where linearised is not to be trusted), none, or auto: linearised for evomal and ml3 where the student has that
    form, else exact; none for the others."""
    local_steps: int = 250
    """Steps of Adam on the parameters."""
    local_lr: float = 1e-3
    """Adam's learning rate."""
    inner_steps: int = 1
    """Training steps of the student between two of them; linearised takes one."""
    filter_order: str = "fast"
    """When candidates are rejected that do not lower the error of free outputs: before the local search (fast) or
    after it (paper)."""
    rejection: RejectionConfig = dataclasses.field(default_factory=RejectionConfig)
    """Rejection protocol of evomal and gp_lfl."""
    start: tuple[str, ...] = ()
    """First trees of evomal and gp_lfl, as EvoMAL writes them, "square(sub(y, p))"; or first genomes of nlfs, "root =
    mul(h1, h2); h1 = abs(y); h2 = log_shift(p)"."""
    gp: GPConfig = dataclasses.field(default_factory=GPConfig)
    """Genetic programming."""
    taylor: TaylorConfig = dataclasses.field(default_factory=TaylorConfig)
    """TaylorGLO."""
    nlfs: NLFSConfig = dataclasses.field(default_factory=NLFSConfig)
    """Neural loss function search."""

    def __post_init__(self) -> None:
        super().__post_init__()
        settle(self, "method", tuple(METHODS))
        settle(self, "filter_order", FILTER_ORDERS)
        settle(self, "local_search", ("auto", *LOCAL_SEARCHES))
        allowed = METHODS[self.method]
        require(
            self.local_search in ("auto", *allowed),
            f"local_search is {self.local_search}, expected {' or '.join(allowed)} for {self.method}",
        )
        require(0 <= self.seed < 2**31, f"seed is {self.seed}, expected 0 to 2^31 - 1")
        require(0.0 < self.validation < 1.0, f"validation is {self.validation}, expected a share between 0 and 1")
        require(
            self.train_size is None or self.train_size >= 2, f"train_size is {self.train_size}, expected at least 2"
        )
        require(
            not self.start or self.method in ("evomal", "gp_lfl", "nlfs"),
            f"start holds {len(self.start)} losses, expected none for {self.method}",
        )
        if self.start and self.method == "nlfs":
            parse_genomes(self.nlfs, self.start)  # says which text is no valid genome
        elif self.start:
            init(self.gp, self.seed, self.trees)  # says which tree the settings do not allow
        local = allowed[0] if self.local_search == "auto" else self.local_search
        varied = self.varied
        require(
            not varied or local == "none",
            f"local_search is {self.local_search}, expected none with {' and '.join(varied)}: it follows sgd at a "
            "constant learning rate on images as they are",
        )
        if self.method == "nlfs" and self.nlfs.screen is not None:
            self.screening(self.nlfs.screen)  # says what is no student
        self.descent(0.01)  # says what is wrong with its numbers

    def screening(self, arch: str) -> Self:
        """Return the settings of the search with another student, on images as they are."""
        return dataclasses.replace(
            self,
            arch=arch,
            lr=None,
            rand_augment=0,
            dropout=False,
            nlfs=dataclasses.replace(self.nlfs, screen=None),
        )

    @property
    def rungs(self) -> RacingConfig:
        """The race: its rungs but the last, as far as they lie below `steps`, and `steps`.

        Without a race all go on from each rung where the race has a limit; else there is one rung.
        """
        if self.method == "nlfs":
            return self._early_stopping
        if not self.race and self.racing.limit is None:
            return full(self.steps)
        below = tuple(rung for rung in self.racing.rungs[:-1] if rung < self.steps)
        kept = self.racing.kept[: len(below)] if self.race else (1.0,) * len(below)
        return dataclasses.replace(self.racing, rungs=(*below, self.steps), kept=kept)

    @property
    def _early_stopping(self) -> RacingConfig:
        """Return the race of NLFS: all go on but those that are hopeless."""
        stop = self.nlfs.stop_steps
        if not 0 < stop < self.steps:
            return full(self.steps)
        return RacingConfig(rungs=(stop, self.steps), kept=(1.0,), limit=self.nlfs.stop_error)

    @property
    def trees(self) -> list[Expression]:
        """The first trees of the population."""
        return [evomal.from_tree(text) for text in self.start]

    @property
    def generations(self) -> int:
        """Generations of the method."""
        return {"taylorglo": self.taylor.generations, "ml3": 1, "nlfs": self.nlfs.generations}.get(
            self.method, self.gp.generations
        )

    @property
    def population_size(self) -> int:
        """Candidates of a generation."""
        return {"taylorglo": self.taylor.population_size, "ml3": 1, "nlfs": self.nlfs.children}.get(
            self.method, self.gp.population_size
        )

    def descent(self, lr: float) -> LocalSearchConfig:
        """Return the settings of the local search for students that are trained with a learning rate."""
        return LocalSearchConfig(
            steps=self.local_steps,
            lr=self.local_lr,
            inner_steps=self.inner_steps,
            inner_lr=lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
        )

    def settled(self, student: students.Student) -> Self:
        """Return the settings with what is left open decided for a student."""
        lr = self.learning_rate(student)
        name = self.local_search
        if name == "auto":
            name = METHODS[self.method][0]
            if name == "linearised" and not (student.tangent_kernel and self.inner_steps == 1):
                name = "exact"
        return dataclasses.replace(self, lr=lr, local_search=name)
