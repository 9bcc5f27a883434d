"""The losses written by hand, by name: function, formula, source.

In the formulas z are the logits, p = softmax(z), y the label probabilities, t the true class, C the number of classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax

from edl_jax.loss.zoo.classic import brier, cross_entropy, focal, label_smoothing, poly1
from edl_jax.loss.zoo.found import ace, baikal, sparse_lsr
from edl_jax.loss.zoo.logits import logit_norm, squentropy
from edl_jax.loss.zoo.margin import additive_margin, crammer_singer, weston_watkins, zero_one
from edl_jax.loss.zoo.residual import barron, taylor_glo
from edl_jax.loss.zoo.robust import gce, mae, nce, nce_rce, reverse_cross_entropy, sce, taylor_cross_entropy
from edl_jax.loss.zoo.tempered import bi_tempered


class Entry(NamedTuple):
    """A loss of the zoo: its function, its formula for integer labels, where it comes from."""

    function: Callable[..., jax.Array]
    formula: str
    source: str


ZOO: dict[str, Entry] = {
    "ace": Entry(ace, "phi0 |ln(phi1 p_t)|", "Raymond et al. 2023, arXiv 2209.08907"),
    "additive_margin": Entry(
        additive_margin, "-ln softmax(scale (z_j - margin [j = t]))_t", "Wang et al. 2018, arXiv 1801.05599"
    ),
    "baikal": Entry(baikal, "-(1/C) sum_c (ln p_c - y_c / p_c)", "Gonzalez and Miikkulainen 2020, arXiv 1905.11528"),
    "barron": Entry(
        barron,
        "sum_c |alpha - 2|/alpha ((((p_c - y_c)/scale)^2 / |alpha - 2| + 1)^(alpha/2) - 1)",
        "Barron 2019, arXiv 1701.03077",
    ),
    "bi_tempered": Entry(
        bi_tempered,
        "(1 - q_t^(1 - t1))/(1 - t1) - (1 - sum_c q_c^(2 - t1))/(2 - t1), q = softmax of z tempered by t2",
        "Amid et al. 2019, arXiv 1906.03361",
    ),
    "brier": Entry(brier, "sum_c (p_c - y_c)^2", "Brier 1950"),
    "cross_entropy": Entry(cross_entropy, "-ln p_t", "maximum likelihood"),
    "crammer_singer": Entry(
        crammer_singer, "max(0, margin + max_{j != t} z_j - z_t)", "Crammer and Singer 2001, JMLR 2, 265-292"
    ),
    "focal": Entry(focal, "-(1 - p_t)^gamma ln p_t", "Lin et al. 2017, arXiv 1708.02002"),
    "gce": Entry(gce, "(1 - max(p_t, k)^q) / q", "Zhang and Sabuncu 2018, arXiv 1805.07836"),
    "label_smoothing": Entry(
        label_smoothing, "-(1 - alpha) ln p_t - (alpha/C) sum_c ln p_c", "Szegedy et al. 2016, arXiv 1512.00567"
    ),
    "logit_norm": Entry(logit_norm, "-ln softmax(z / (tau ||z||))_t", "Wei et al. 2022, arXiv 2205.09310"),
    "mae": Entry(mae, "1/2 sum_c |p_c - y_c| = 1 - p_t", "Ghosh et al. 2017, arXiv 1712.09482"),
    "nce": Entry(nce, "ln p_t / sum_c ln p_c", "Ma et al. 2020, arXiv 2006.13554"),
    "nce_rce": Entry(
        nce_rce, "alpha ln p_t / sum_c ln p_c - beta ln(clip) (1 - p_t)", "Ma et al. 2020, arXiv 2006.13554"
    ),
    "poly1": Entry(poly1, "-ln p_t + epsilon (1 - p_t)", "Leng et al. 2022, arXiv 2204.12511"),
    "reverse_cross_entropy": Entry(reverse_cross_entropy, "-ln(clip) (1 - p_t)", "Wang et al. 2019, arXiv 1908.06112"),
    "sce": Entry(sce, "-alpha ln p_t - beta ln(clip) (1 - p_t)", "Wang et al. 2019, arXiv 1908.06112"),
    "sparse_lsr": Entry(
        sparse_lsr,
        "-(1 - alpha + alpha/C) ln p_t - alpha (C-1)/C ln((1 - p_t) / (C-1))",
        "Raymond et al. 2023, arXiv 2209.08907",
    ),
    "squentropy": Entry(
        squentropy, "-ln p_t + 1/(C-1) sum_{j != t} z_j^2", "Hui, Belkin and Wright 2023, arXiv 2302.03952"
    ),
    "taylor_cross_entropy": Entry(
        taylor_cross_entropy, "sum_{j = 1 ... order} (1 - p_t)^j / j", "Feng et al. 2020, doi 10.24963/ijcai.2020/305"
    ),
    "taylor_glo": Entry(
        taylor_glo,
        "-(1/C) sum_c sum_{i >= 0, j >= 1, i + j <= k} theta_ij (y_c - theta_0)^i (p_c - theta_1)^j / (i! j!)",
        "Gonzalez and Miikkulainen 2021, arXiv 2002.00059",
    ),
    "weston_watkins": Entry(
        weston_watkins, "sum_{j != t} max(0, margin + z_j - z_t)", "Weston and Watkins 1999, ESANN, 219-224"
    ),
    "zero_one": Entry(zero_one, "1 - softmax(steepness z)_t", "Nguyen and Sanner 2013, ICML, PMLR 28(3)"),
}

# Functions of p_t alone, for integer labels. `sparse_lsr` is not among them: at p_t -> 1 it needs ln(1 - p_t) from the
# other logits, as p_t rounds to 1 there.
OF_P_T = frozenset(
    {
        "ace",
        "cross_entropy",
        "focal",
        "gce",
        "mae",
        "poly1",
        "reverse_cross_entropy",
        "sce",
        "taylor_cross_entropy",
    }
)
