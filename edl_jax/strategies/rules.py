"""Rules by name for std and for alpha, the share of chaotic noise.

Every rule is neutral: when fitness is random, so that the ranks of the members are exchangeable, the expected
change of log std is exactly zero (apart from `exponential`, whose change is fixed beforehand), and alpha has no
preferred direction inside its limits.

[1] Rechenberg, Evolutionsstrategie, 1973: the one-fifth success rule.
[2] Igel, Hansen, Roth, Evolutionary Computation 15(1), 2007, table 1: damping of success rules, 1 + D / (2 lambda).
[3] Hansen, The CMA Evolution Strategy: A Tutorial, arXiv 1604.00772, section 3.2 and table 1: CSA and its constants.
[4] Arnold, Beyer, IEEE Transactions on Automatic Control 49(4), 2004: CSA by the squared length of the path.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# Largest change of log std in a generation, and limits far outside any use that keep float32 finite.
_MAX_CHANGE = 1.0
_STD_RANGE = (1e-12, 1e12)


class Generation(NamedTuple):
    """What the rules learn from a generation.

    Attributes:
      weights: `[n]` centred recombination weights of the mutants, summing to 0; 0 for failed ones.
      valid: `[n]` bool, mutants with a finite fitness.
      deviations: `[n, num_dims]` mutants minus mean.
      surplus: scalar, `success_surplus` of the re-scored mean; 0 where the mean is not re-scored.
    """

    weights: jax.Array
    valid: jax.Array
    deviations: jax.Array
    surplus: jax.Array


def success_surplus(fitness: jax.Array) -> jax.Array:
    """Return S - E0[S] of a population whose member 0 is the mean itself.

    S is 1 if more than a fifth of the other members beat the mean on the generation's batch, else 0. The
    textbook rule [1] compares the *share* of successes with a fifth. Under pure noise that share is one half on
    average, and std grows without a reason. Here the reference is what chance gives: among n + 1 members with
    exchangeable fitness the number k that beat the mean is uniform on {0, ..., n}, hence

        E0[S] = P(k > n/5) = (n - floor(n/5)) / (n + 1),

    about 4/5, and S - E0[S] has zero mean under noise. A mean that beats four fifths of its mutants counts as
    failure, as in the textbook. Of equal fitness values neither beats the other.

    Args:
      fitness: `[population_size]`, failed members at inf.

    Returns:
      Scalar float32 in (-1, 1); 0 when the mean or all others failed.
    """
    others = fitness[1:]
    count = jnp.sum(jnp.isfinite(others))
    success = jnp.sum(others < fitness[0]) > count // 5
    expected = (count - count // 5).astype(jnp.float32) / (count + 1).astype(jnp.float32)
    known = jnp.isfinite(fitness[0]) & (count > 0)
    return jnp.where(known, success.astype(jnp.float32) - expected, 0.0)


Updated = tuple[jax.Array, Any]


def _constant(generation: Generation, std: jax.Array, path: Any, params: Any) -> Updated:
    """Leave std as it is."""
    return std, path


def _exponential(generation: Generation, std: jax.Array, path: Any, params: Any) -> Updated:
    """Multiply std by `std_decay`, down to `std_limit`."""
    return jnp.maximum(std * params.std_decay, params.std_limit), path


def _one_fifth(generation: Generation, std: jax.Array, path: Any, params: Any) -> Updated:
    """Add std_rate (S - E0[S]) / (1 + D / (2 n)) to log std; see `success_surplus` and [2]."""
    count, num_dims = generation.deviations.shape
    damping = 1.0 + num_dims / (2.0 * count)
    return _change(std, params.std_rate * generation.surplus / damping), path


def _csa(generation: Generation, std: jax.Array, path: Any, params: Any) -> Updated:
    """Cumulative step-size adaptation.

        y = sum_i (w_i - 1/n) z_i, scaled to E0 |y|^2 = D
        p <- (1 - c) p + sqrt(c (2 - c)) y
        log std <- log std + std_rate c / (2 d) (|p|^2 / D - 1)

    c and d are those of [3]; the squared length [4] makes the rule neutral in expectation, not only about.
    z_i are the mutants' deviations from the mean. Two things keep the rule neutral for chaotic noise. The weights
    are centred: under exchangeable fitness E[w_i] = 1/n, so y has zero mean whatever the z_i are, and orbits that
    remember their past (mouse, henon) leave no trace in p. And the length of y is measured against the members'
    own scatter: E0[|y|^2 | z] = sum_i (w_i - 1/n)^2 times the trace of their sample covariance, which also holds
    for mirrored and for failed members. p starts at length sqrt(D). The limit of 1 on a generation's change of
    log std would need |p|^2 > D (1 + 2 d / c), which random fitness practically never brings about.
    """
    num_dims = generation.deviations.shape[1]
    valid = generation.valid.astype(jnp.float32)
    count = jnp.maximum(jnp.sum(valid), 1.0)
    step, average = jnp.stack([generation.weights, valid / count]) @ generation.deviations
    squares = valid @ jnp.sum(jnp.square(generation.deviations), axis=1)
    scatter = (squares - count * jnp.sum(jnp.square(average))) / jnp.maximum(count - 1.0, 1.0)
    expected = jnp.sum(jnp.square(generation.weights)) * scatter
    known = (expected > 0.0) & jnp.isfinite(expected)

    mu_eff = 1.0 / jnp.sum(jnp.square(params.weights))
    c = (mu_eff + 2.0) / (num_dims + mu_eff + 5.0)
    d = 1.0 + 2.0 * jnp.maximum(jnp.sqrt((mu_eff - 1.0) / (num_dims + 1.0)) - 1.0, 0.0) + c
    y = step * jnp.sqrt(num_dims / jnp.where(known, expected, 1.0))
    moved = (1.0 - c) * path + jnp.sqrt(c * (2.0 - c)) * y
    change = params.std_rate * 0.5 * c / d * (jnp.sum(jnp.square(moved)) / num_dims - 1.0)
    # A generation without two different survivors says nothing.
    return jnp.where(known, _change(std, change), std), jnp.where(known, moved, path)


def _change(std: jax.Array, log_change: jax.Array) -> jax.Array:
    """Return std with log_change added to its logarithm, at most 1 either way in a generation."""
    return jnp.clip(std * jnp.exp(jnp.clip(log_change, -_MAX_CHANGE, _MAX_CHANGE)), *_STD_RANGE)


@dataclasses.dataclass(frozen=True)
class StdRule:
    """A std rule.

    Attributes:
      update: (generation, std, path, params) -> (std, path).
      rescores: whether it needs the mean among the members.
      cumulates: whether it keeps a path `[num_dims]`; else path is `()`.
    """

    update: Callable[[Generation, jax.Array, Any, Any], Updated]
    rescores: bool = False
    cumulates: bool = False


STD_RULES: dict[str, StdRule] = {
    "constant": StdRule(_constant),
    "exponential": StdRule(_exponential),
    "one_fifth": StdRule(_one_fifth, rescores=True),
    "csa": StdRule(_csa, cumulates=True),
}


def _constant_alpha(alpha: jax.Array, surplus: jax.Array, generation_counter: jax.Array, params: Any) -> jax.Array:
    """Leave alpha as it is."""
    return alpha


def _linear_alpha(alpha: jax.Array, surplus: jax.Array, generation_counter: jax.Array, params: Any) -> jax.Array:
    """Move alpha in equal steps, to `alpha_end` after `alpha_horizon` generations."""
    left = jnp.asarray(params.alpha_horizon, jnp.float32) - generation_counter.astype(jnp.float32)
    return alpha + (params.alpha_end - alpha) / jnp.maximum(left, 1.0)


def _adaptive_alpha(alpha: jax.Array, surplus: jax.Array, generation_counter: jax.Array, params: Any) -> jax.Array:
    """Add alpha_rate (E0[S] - S) to alpha, within [alpha_end, 1]; see `success_surplus`.

    While more than a fifth of the mutants beat the re-scored mean, the search makes progress and alpha falls
    towards `alpha_end`; when they no longer do, chaos rises towards 1. Under noise alpha drifts neither way.
    EDL, arXiv 2605.03722, names an adaptive schedule of chaos as future work.
    """
    return jnp.clip(alpha - params.alpha_rate * surplus, params.alpha_end, 1.0)


@dataclasses.dataclass(frozen=True)
class AlphaRule:
    """A rule of alpha.

    Attributes:
      update: (alpha, surplus, generation_counter, params) -> alpha.
      rescores: whether it needs the mean among the members.
    """

    update: Callable[[jax.Array, jax.Array, jax.Array, Any], jax.Array]
    rescores: bool = False


ALPHA_RULES: dict[str, AlphaRule] = {
    "constant": AlphaRule(_constant_alpha),
    "linear": AlphaRule(_linear_alpha),
    "adaptive": AlphaRule(_adaptive_alpha, rescores=True),
}
