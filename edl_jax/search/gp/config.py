"""Settings of genetic programming; the defaults are EvoMAL's."""

import dataclasses

from edl_jax.core.errors import require, unknown
from edl_jax.loss.expression.evomal import OPERATORS, TERMINALS


@dataclasses.dataclass(frozen=True)
class GPConfig:
    """Settings of genetic programming. The defaults are those of EvoMAL (Raymond et al. 2023, arXiv 2209.08907)."""

    population_size: int = 25
    """Trees per generation."""
    generations: int = 50
    """Generations, the first population included."""
    operators: tuple[str, ...] = tuple(OPERATORS)
    """Operators of the trees, by EvoMAL's names."""
    terminals: tuple[str, ...] = ("y", "p", "1", "-1")
    """Terminals of the trees; y and p are required."""
    min_init_height: int = 2
    """Least height of a tree of the first population, before its repair."""
    max_init_height: int = 4
    """Greatest height of a tree of the first population, before its repair."""
    max_height: int = 10
    """Greatest height of any tree."""
    crossover: float = 0.7
    """Probability that a child is made by crossover."""
    mutation: float = 0.25
    """Probability that a child is made by mutation; else it is a copy."""
    max_mutation_height: int = 2
    """Greatest height of the subtree that a mutation plants."""
    tournament_size: int = 4
    """Members of the tournament that selects a parent."""
    elitism: float = 0.05
    """Share of the population, rounded and at least one tree, that goes on unchanged; 0 for none."""
    retries: int = 0
    """How often a child that is a candidate evaluated before, or a twin of another child, is drawn again."""
    released_quirks: bool = False
    """Do as the released code: no elitism, trees are the same where their text is, rejected ones are forgotten, the
    repair may exceed max_height, NaN is a fitness like others."""

    def __post_init__(self) -> None:
        for kind, names, known in (
            ("primitive", self.operators, tuple(OPERATORS)),
            ("terminal", self.terminals, tuple(TERMINALS)),
        ):
            for name in names:
                if name not in known:
                    raise unknown(kind, name, known)
            require(len(set(names)) == len(names), f"{kind}s are {', '.join(names)}, expected each once")
        require(
            {"y", "p"} <= {*self.terminals}, f"terminals are {', '.join(self.terminals)}, expected y and p among them"
        )
        require(
            any(name in BINARY for name in self.operators),
            f"primitives are {', '.join(self.operators) or 'none'}, expected one of {', '.join(BINARY)} among them: "
            "only they join y and p",
        )
        require(self.population_size >= 2, f"population_size is {self.population_size}, expected at least 2")
        require(self.generations >= 1, f"generations is {self.generations}, expected at least 1")
        require(
            1 <= self.min_init_height <= self.max_init_height < self.max_height <= MAX_HEIGHT,
            f"min_init_height, max_init_height and max_height are {self.min_init_height}, {self.max_init_height} and "
            f"{self.max_height}, expected 1 <= min_init_height <= max_init_height < max_height <= {MAX_HEIGHT}",
        )
        require(
            self.max_mutation_height >= 0, f"max_mutation_height is {self.max_mutation_height}, expected at least 0"
        )
        require(self.retries >= 0, f"retries is {self.retries}, expected at least 0")
        require(
            self.retries == 0 or not self.released_quirks,
            f"retries is {self.retries}, expected 0 with released_quirks: the released code draws no child again",
        )
        for name in ("crossover", "mutation", "elitism"):
            value = getattr(self, name)
            require(0.0 <= value <= 1.0, f"{name} is {value}, expected 0 <= {name} <= 1")
        require(
            self.crossover + self.mutation <= 1.0,
            f"crossover and mutation are {self.crossover} and {self.mutation}, expected a sum of at most 1",
        )
        require(self.tournament_size >= 1, f"tournament_size is {self.tournament_size}, expected at least 1")
        require(
            self.num_elites < self.population_size,
            f"elitism is {self.elitism}, expected less than 1: a population of elites never changes",
        )

    @property
    def num_elites(self) -> int:
        """Return how many trees go on unchanged."""
        if self.released_quirks or self.elitism == 0.0:
            return 0
        return max(1, round(self.elitism * self.population_size))


BINARY: tuple[str, ...] = ("add", "sub", "mul", "div", "min", "max")
"""EvoMAL's operators of two arguments; the repair draws from the first four."""
MAX_HEIGHT = 16
"""Limit of the height limit: a full tree of this height has 131,071 nodes."""

PRESETS: dict[str, GPConfig] = {"paper": GPConfig(), "diverse": GPConfig(retries=3)}
"""Settings by name: `paper`, those of EvoMAL; `diverse`, which spends what twins would have cost on new candidates."""
