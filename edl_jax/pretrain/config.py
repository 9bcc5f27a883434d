"""Settings of stage 1."""

import dataclasses
import math
from typing import Annotated, Self

import tyro

from edl_jax import strategies
from edl_jax.core.errors import require, settle, unknown
from edl_jax.loss import NetworkConfig
from edl_jax.loss.networks.kinds import AUTO, EVOLVED_KINDS, is_function_of_p_t, is_separable
from edl_jax.strategies import StrategyConfig
from edl_jax.synthetic import MixtureConfig, severity
from edl_jax.synthetic.law import OF_P_T, law_of
from edl_jax.synthetic.tabulated import LOG_P_MIN

EVALUATIONS = ("auto", "plain", "tabulated")


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """What evolution minimises. Hashable: programs are compiled once for each."""

    num_classes: int = 10
    """Number of classes C of the synthetic predictions."""
    num_pairs: int = 1024
    """Pairs of predictions per generation: more make the fitness less noisy."""
    reuse: int = 1
    """Pairs that each prediction starts: num_pairs / reuse predictions are drawn."""
    severity: str = "error"
    """What makes a prediction worse: brier, error, margin or nll."""
    beta: float = 1.0
    """Sharpness of the ranking objective."""
    margin: float = 0.0
    """Margin m per unit of standardised severity."""
    wrong_way: float = 0.0
    """Weight of the penalty on gradients that lower the true class's margin."""
    exploding: float = 0.0
    """Weight of the penalty on exploding gradients."""
    roughness: float = 0.0
    """Weight of the penalty on rough losses."""
    slope: float = 0.3
    """Weight of the penalty on slopes other than those that the objective asks for. It counts where the network sees
    p_t alone and the law of p_t is known."""
    evaluation: str = "auto"
    """How members are scored: tabulated (functions of one variable), plain (the reference), or auto."""
    network: NetworkConfig = dataclasses.field(
        default_factory=lambda: NetworkConfig(kind=AUTO, hidden=(16,), activation="tanh")
    )
    """Loss network."""
    mixture: MixtureConfig = dataclasses.field(default_factory=MixtureConfig)
    """Mixture of synthetic predictions."""

    def __post_init__(self) -> None:
        settle(self, "severity", severity.SEVERITIES)
        _check_counts(self, (("num_classes", 2), ("num_pairs", 2), ("reuse", 1)))
        require(0.0 < self.beta < math.inf, f"beta is {self.beta}, expected a positive number")
        for name in ("margin", "wrong_way", "exploding", "roughness", "slope"):
            value = getattr(self, name)
            require(0.0 <= value < math.inf, f"{name} is {value}, expected 0 or a positive number")
        require(
            self.reuse <= self.num_pairs // 2,
            f"reuse is {self.reuse}, expected at most half of num_pairs ({self.num_pairs})",
        )
        if self.network.kind not in (*EVOLVED_KINDS, AUTO):
            raise unknown("network kind", self.network.kind, (*EVOLVED_KINDS, AUTO))
        network = self._network
        settle(self, "evaluation", EVALUATIONS)
        require(
            self.evaluation != "tabulated" or is_separable(network),
            f"evaluation is tabulated, but a {network.kind} network is no function of one variable per class: "
            "expected auto or plain",
        )
        require(
            self.roughness == 0.0 or is_separable(network),
            f"roughness is {self.roughness}, expected 0: a {network.kind} network is no function of one variable "
            "per class whose bends could be measured",
        )
        of_p_t = is_function_of_p_t(network)
        require(
            not of_p_t or self.severity in OF_P_T,
            f"a {network.kind} network sees p_t alone, and severity {self.severity} is no function of it: "
            f"expected severity {' or '.join(OF_P_T)}, or network kind per_class",
        )

    def settled(self) -> Self:
        """Return the config with the network's kind, where it is auto, chosen for the severity."""
        return dataclasses.replace(self, network=self._network)

    @property
    def sees_slope(self) -> bool:
        """Whether members are told how far their slopes are from those that the objective asks for."""
        if self.slope == 0.0 or not is_function_of_p_t(self._network):
            return False
        return law_of(self.mixture, self.severity, self.num_classes) is not None

    @property
    def _network(self) -> NetworkConfig:
        if self.network.kind != AUTO:
            return self.network
        return dataclasses.replace(self.network, kind="true_class" if self.severity in OF_P_T else "per_class")

    @property
    def is_tabulated(self) -> bool:
        """Whether populations are evaluated on a grid of ln p."""
        return self.evaluation != "plain" and is_separable(self._network)

    @property
    def grid_log_p_min(self) -> float:
        """The lower end of that grid: every component of the mixture that sets ln p_t stays above it."""
        return min(LOG_P_MIN, self.mixture.log_p_min, *self.mixture.designed_log_p[:1])


@dataclasses.dataclass(frozen=True)
class PretrainConfig(ObjectiveConfig):
    """Evolve a loss on synthetic pairs."""

    strategy: str = "chaotic_es"
    """Evolution strategy: chaotic_es, gaussian_es, or an evosax algorithm by its module name: ars, asebo, cma_es,
    cr_fm_nes, discovered_es, esmc, gradientless_descent, guided_es, hill_climbing, iamalgam_full, iamalgam_univariate,
    lm_ma_es, ma_es, noise_reuse_es, open_es, persistent_es, pgpe, random_search, rm_es, sep_cma_es, simple_es,
    simulated_annealing, snes or xnes."""
    generations: int = 1000
    """Generations to evolve."""
    seed: int = 0
    """Seed of everything random."""
    runs: int = 1
    """Independent runs in one program, with seeds from `seed` on."""
    held_out_pairs: int = 8192
    """Pairs in the fixed batch on which candidates are re-scored."""
    chunk: int = 100
    """Generations between two checkpoints."""
    es: Annotated[StrategyConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=StrategyConfig)
    """Settings of the strategy."""

    def __post_init__(self) -> None:
        settle(self, "strategy", strategies.names())
        super().__post_init__()
        _check_counts(self, (("generations", 1), ("runs", 1), ("held_out_pairs", 2), ("chunk", 1), ("seed", 0)))
        require(
            self.seed + self.runs < 2**31,
            f"seed {self.seed} leaves no room for {self.runs} runs, expected less than 2^31",
        )

    @property
    def objective(self) -> ObjectiveConfig:
        """What is minimised, settled, without what it is minimised by."""
        settled = self.settled()
        return ObjectiveConfig(**{x.name: getattr(settled, x.name) for x in dataclasses.fields(ObjectiveConfig)})


def _check_counts(config: ObjectiveConfig, least: tuple[tuple[str, int], ...]) -> None:
    for name, low in least:
        value = getattr(config, name)
        require(value >= low, f"{name} is {value}, expected at least {low}")
        require(value < 2**31, f"{name} is {value}, expected less than 2^31")
