"""Stage 1 in PyTorch, to measure ours against: the same fitness and the same evolution strategy, written as usual.

A per_class network of silu layers at every prediction and class, no tables. Populations are scored in one of three
ways: `vectorised`, all members in batched products; `blocks`, a few members at a time, so that activations stay in
cache; `loop`, one member at a time. The noise is Gaussian. Parameters lie in a member as in ours. torch.compile is not
used: on a CPU it needs a C++ compiler, and `vectorised` and `loop` were no faster with it.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from edl_jax.pretrain import ObjectiveConfig
from edl_jax.strategies import StrategyConfig
from edl_jax.synthetic.mixture import COMPONENTS, MixtureConfig

# Their activations take 5 MB a layer at 1,024 predictions, 10 classes and width 16.
BLOCK = 8
# ln p is divided by this before it enters the network, as in ours.
_LOG_P_UNIT = 10.0


class Batch(NamedTuple):
    """Predictions whose true class is class 0.

    Attributes:
      features: `[N C, 3]` p, ln p / 10, and 1 at the true class.
      share: `[N, C]` what a class's value counts: 1 at the true class, p elsewhere.
      severity: `[N]` 1 - p_t.
    """

    features: Tensor
    share: Tensor
    severity: Tensor


Losses = Callable[[Tensor, Batch, tuple[int, ...]], Tensor]


def batch_of(log_p: Tensor) -> Batch:
    """Return the batch of predictions `[N, C]` whose true class is class 0."""
    p = log_p.exp()
    is_true = torch.zeros_like(p)
    is_true[:, 0] = 1.0
    features = torch.stack([p, log_p / _LOG_P_UNIT, is_true], dim=-1).view(-1, 3)
    return Batch(features, torch.where(is_true > 0.0, is_true, p), -torch.expm1(log_p[:, 0]))


def vectorised(members: Tensor, batch: Batch, hidden: tuple[int, ...]) -> Tensor:
    """Return the losses `[P, N]` of members `[P, D]`, all of them in batched products."""
    *inner, (bias, kernel) = _layers(members, hidden)
    x = batch.features.expand(len(members), -1, -1)
    for b, w in inner:
        x = F.silu(torch.baddbmm(b, x, w), inplace=True)
    values = torch.baddbmm(bias, x, kernel).view(len(members), *batch.share.shape)
    return values.mul_(batch.share).sum(-1)


def blocks(members: Tensor, batch: Batch, hidden: tuple[int, ...]) -> Tensor:
    """Return the losses `[P, N]` of members `[P, D]`, a few at a time."""
    return torch.cat([vectorised(block, batch, hidden) for block in members.split(BLOCK)])


def loop(members: Tensor, batch: Batch, hidden: tuple[int, ...]) -> Tensor:
    """Return the losses `[P, N]` of members `[P, D]`, one at a time."""
    *inner, (bias, kernel) = _layers(members, hidden)
    losses = members.new_empty(len(members), len(batch.share))
    # Written into again and again: fresh memory costs page faults.
    buffers = [members.new_empty(len(batch.features), width) for width in hidden]
    for i in range(len(members)):
        x = batch.features
        for (b, w), buffer in zip(inner, buffers, strict=True):
            x = F.silu(torch.addmm(b[i], x, w[i], out=buffer), inplace=True)
        values = torch.addmm(bias[i], x, kernel[i]).view(batch.share.shape)
        torch.sum(values.mul_(batch.share), -1, out=losses[i])
    return losses


WAYS: dict[str, Losses] = {"vectorised": vectorised, "blocks": blocks, "loop": loop}


def fitness(losses: Tensor, severity: Tensor, *, reuse: int, beta: float, margin: float) -> Tensor:
    """Return the objective `[P]` of losses `[P, N]` at severities `[N]`, each paired with the `reuse` that follow."""
    losses = losses / _scale(losses.std(-1, correction=0, keepdim=True))
    severity = severity / _scale(severity.std(correction=0))
    total, pairs = torch.zeros_like(losses[:, 0]), torch.zeros_like(severity[0])
    for k in range(1, reuse + 1):
        gap_e = severity.roll(-k) - severity
        gap_l = losses.roll(-k, dims=-1) - losses
        order = gap_e.sign()
        terms = F.softplus(beta * (margin * gap_e.abs() - order * gap_l)) / beta
        counts = (order != 0.0).to(terms.dtype)
        total, pairs = total + terms @ counts, pairs + counts.sum()
    return total / pairs.clamp(min=1.0)


def draw(mixture: MixtureConfig, num_classes: int, count: int, device: str) -> Tensor:
    """Draw predictions `[N, C]` of the mixture, log-probabilities, true class 0."""
    weights = torch.tensor(mixture.weights, device=device)
    component = torch.multinomial(weights, count, replacement=True)
    true, rival, other = torch.tensor(_concentrations(mixture, num_classes), device=device)[component].T
    concentration = other[:, None].expand(-1, num_classes).clone()
    concentration[:, 0] = true
    rivals = torch.randint(1, num_classes, (count, 1), device=device)
    concentration.scatter_(1, rivals, rival[:, None])
    # ln of a gamma variate: concentration + 1, then u^(1 / concentration), exact where the variate underflows.
    gamma = torch.distributions.Gamma(concentration + 1.0, torch.ones_like(concentration), validate_args=False)
    log_gamma = gamma.sample().log_() + torch.empty_like(concentration).exponential_().neg_() / concentration
    log_p = log_gamma.log_softmax(-1)

    u = torch.rand(count, device=device).clamp_(min=1e-6)
    level = mixture.log_p_min * u
    set_level = component == COMPONENTS.index("log_uniform")
    if mixture.designed > 0.0:
        designed = component == COMPONENTS.index("designed")
        level = torch.where(designed, _quantile(torch.tensor(mixture.designed_log_p, device=device), u), level)
        set_level |= designed
    rest = log_gamma[:, 1:].log_softmax(-1) + (-torch.expm1(level)).log()[:, None]
    return torch.where(set_level[:, None], torch.cat([level[:, None], rest], dim=1), log_p)


class Evolution:
    """Generations of a rank-weighted evolution strategy with Gaussian noise: draw, ask, score, tell."""

    def __init__(
        self,
        objective: ObjectiveConfig,
        es: StrategyConfig,
        start: Tensor,
        way: str,
        *,
        fresh: bool = True,
        device: str = "cpu",
    ):
        """Prepare a search.

        Args:
          objective: what is minimised: a per_class network of silu layers, severity `error`, no regularisers.
          es: population, std, its decay and limit, elite ratio and step size.
          start: `[D]` first mean.
          way: one of `WAYS`.
          fresh: draw predictions in every generation; otherwise once.
          device: where to compute.
        """
        self.objective, self.es, self.losses = objective, es, WAYS[way]
        self.mean, self.std = start.clone().to(device), es.std
        size = es.population_size
        log_rank = torch.arange(1, size + 1, dtype=torch.float32, device=device).log()
        weights = (torch.tensor(max(1, int(es.elite_ratio * size)) + 0.5, device=device).log() - log_rank).clamp(min=0)
        self.weights = weights / weights.sum() - 1.0 / size
        self.population = torch.empty(size, start.numel(), device=device)
        self.fresh, self.device = fresh, device
        self.batch = self._draw()

    @torch.inference_mode()
    def run(self, generations: int) -> float:
        """Do some generations and return the lowest fitness in the last one's population."""
        scores = torch.zeros(())
        for _ in range(generations):
            batch = self._draw() if self.fresh else self.batch
            population = torch.randn(self.population.shape, out=self.population).mul_(self.std).add_(self.mean)
            scores = self._score(population, batch)
            self.mean += self.es.mean_lr * (self.weights @ (population[scores.argsort()] - self.mean))
            self.std = max(self.std * self.es.std_decay, min(self.es.std_limit, self.es.std))
        return float(scores.min())

    def _draw(self) -> Batch:
        count = max(-(-self.objective.num_pairs // self.objective.reuse), self.objective.reuse + 1)
        return batch_of(draw(self.objective.mixture, self.objective.num_classes, count, self.device))

    def _score(self, members: Tensor, batch: Batch) -> Tensor:
        losses, objective = self.losses(members, batch, self.objective.network.hidden), self.objective
        return fitness(losses, batch.severity, reuse=objective.reuse, beta=objective.beta, margin=objective.margin)


def _layers(members: Tensor, hidden: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
    """Split members `[P, D]` into (bias `[P, 1, out]`, kernel `[P, in, out]`) of each layer."""
    widths = (3, *hidden, 1)
    layers, start = [], 0
    for fan_in, fan_out in itertools.pairwise(widths):
        middle, end = start + fan_out, start + fan_out + fan_in * fan_out
        kernel = members[:, middle:end].reshape(-1, fan_in, fan_out)
        layers.append((members[:, None, start:middle], kernel))
        start = end
    return layers


def _concentrations(mixture: MixtureConfig, num_classes: int) -> list[list[float]]:
    """Return the concentrations of true class, rival and each other class, one row a component."""
    k, f = mixture.confidence, mixture.flatness
    share, rest = 1.0 / (num_classes - 1), 1.0 / max(num_classes - 2, 1)
    spread = [1.0, mixture.spread, mixture.spread]
    return [[1.0] * 3, [k, share, share], [1.0, k, rest], [k, k, rest], [f] * 3, spread, spread]


def _quantile(knots: Tensor, u: Tensor) -> Tensor:
    """Interpolate quantiles `[K]`, at equal steps of probability, at u `[N]`."""
    position = u * (len(knots) - 1)
    low = position.long().clamp(max=len(knots) - 2)
    return torch.lerp(knots[low], knots[low + 1], position - low).clamp(max=-1e-7)


def _scale(std: Tensor) -> Tensor:
    return torch.where(std == 0.0, torch.ones_like(std), std)
