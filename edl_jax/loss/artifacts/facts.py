"""What a loss network is, in words: its formula and where it comes from."""

from collections.abc import Mapping
from typing import Any

from edl_jax.loss.networks.base import NetworkConfig

_FORMULAS = {
    "true_class": "T(ln p_t), one MLP",
    "monotone_true_class": "T(ln p_t), one monotone MLP",
    "per_class": "g1(p_t) + sum_{j != t} g0(p_j), one MLP",
    "monotone": "g1(p_t) + sum_{j != t} g0(p_j), both monotone",
    "ml3": "sum_c h(p_c, y_c), one MLP without biases",
    "pairwise": "mean over j != t of g(p_t, p_j)",
    "joint": "an MLP of (p, y)",
    "table": "a function of p_t by its values at knots",
}


def network_formula(network: NetworkConfig) -> str:
    """Return the formula of a loss network."""
    widths = "x".join(str(width) for width in network.hidden)
    return f"{_FORMULAS[network.kind]} ({network.kind}, {widths}, {network.activation})"


def origin(network: NetworkConfig, metadata: Mapping[str, Any]) -> str:
    """Return where a loss network comes from, as the metadata of its artifact says."""
    config = metadata.get("config")
    if network.kind == "table":
        return "the optimum of a ranking objective, see docs/theory.md"
    if not isinstance(config, Mapping) or not {"strategy", "generations"} <= config.keys():
        return "learned"
    return f"evolved by {config['strategy']} in {config['generations']} generations (EDL, arXiv 2605.03722)"
