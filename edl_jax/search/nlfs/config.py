"""Settings of neural loss function search; the defaults are those of the authors' code."""

import dataclasses

from edl_jax.core.errors import require, settle
from edl_jax.loss.expression.nlfs import MAX_HIDDEN

TWINS = ("table", "phenotype")


@dataclasses.dataclass(frozen=True)
class NLFSConfig:
    """Settings of NLFS (Morgan and Hougen 2024, arXiv 2403.08793). The sizes are those of the authors' code."""

    hidden: int = 4
    """Hidden nodes of a genome."""
    hidden_unary: float = 0.7
    """Probability that a hidden node of a random genome has one input; else it has two."""
    root_unary: float = 0.2
    """Probability that the root has one input."""
    first: int = 1000
    """Random losses that are tried first; the best become the population."""
    population_size: int = 100
    """Losses of the population."""
    iterations: int = 4000
    """Children, each of which replaces the oldest loss of the population."""
    tournament_size: int = 20
    """Losses drawn from the population, the best of which is the parent."""
    children: int = 20
    """Losses in training at the same time: children of the population before the first of them (1: as the authors)."""
    operator: float = 0.7
    """Probability that a mutation changes an operator."""
    connection: float = 0.15
    """Probability that it changes an input; else a node of one input gets two, or the reverse."""
    attempts: int = 2500
    """Mutations of a parent until one is valid and new; after that many the iteration is skipped."""
    failures: int = 7
    """Children that may end early in an iteration before it is skipped."""
    twins: str = "table"
    """A child must differ from the population in: table (the gradient of the loss) or phenotype (its shape for two
    classes, as the authors have it, which says nothing of its scale)."""
    stop_steps: int = 50
    """Training steps after which a hopeless candidate ends (0: none ends early)."""
    stop_error: float = 0.85
    """Error rate above which it is hopeless; that of guessing is 0.9 with ten classes."""
    multi_class: bool = False
    """Whether a loss must also pass the rejection protocol, which looks at all classes."""
    screen: str | None = None
    """Student that the first losses are tried with; the population of the best is then tried with the search's (None:
    the search's)."""

    def __post_init__(self) -> None:
        settle(self, "twins", TWINS)
        for name, least in (
            ("first", 2),
            ("population_size", 2),
            ("iterations", 1),
            ("tournament_size", 1),
            ("children", 1),
            ("attempts", 1),
            ("failures", 1),
            ("stop_steps", 0),
        ):
            require(getattr(self, name) >= least, f"{name} is {getattr(self, name)}, expected at least {least}")
        require(2 <= self.hidden <= MAX_HIDDEN, f"hidden is {self.hidden}, expected 2 to {MAX_HIDDEN} nodes")
        require(
            self.first >= self.population_size,
            f"first is {self.first}, expected at least population_size ({self.population_size})",
        )
        for name in ("hidden_unary", "root_unary", "operator", "connection", "stop_error"):
            require(0.0 <= getattr(self, name) <= 1.0, f"{name} is {getattr(self, name)}, expected 0 to 1")
        require(
            self.operator + self.connection <= 1.0,
            f"operator and connection are {self.operator} and {self.connection}, expected a sum of at most 1",
        )

    @property
    def first_generations(self) -> int:
        """Return the generations that try the first losses."""
        return -(-self.first // self.children)

    @property
    def generations(self) -> int:
        """Return the generations, of `children` losses each; with `screen`, one more tries the population anew."""
        return self.first_generations + (self.screen is not None) + -(-self.iterations // self.children)
