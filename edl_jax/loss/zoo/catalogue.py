"""The losses written by hand, by name: function, formula, source.

In the formulas z are the logits, p = softmax(z), y the label probabilities, t the true class, C the number of classes.
"""

from typing import NamedTuple

from edl_jax.loss.contract import FromTargets
from edl_jax.loss.zoo.active_passive import amse, anl_ce, anl_fl, jal_ce, jal_fl
from edl_jax.loss.zoo.classic import brier, cross_entropy, dual_focal, focal, label_smoothing, poly1
from edl_jax.loss.zoo.found import ace, baikal, sparse_lsr
from edl_jax.loss.zoo.imbalance import asymmetric, balanced_softmax, logit_adjustment
from edl_jax.loss.zoo.logits import logit_norm, squentropy
from edl_jax.loss.zoo.margin import additive_margin, crammer_singer, weston_watkins, zero_one
from edl_jax.loss.zoo.residual import barron, taylor_glo
from edl_jax.loss.zoo.robust import gce, mae, nce, nce_rce, reverse_cross_entropy, sce, taylor_cross_entropy
from edl_jax.loss.zoo.tempered import bi_tempered


class Entry(NamedTuple):
    """A loss of the zoo: its function, its formula for integer labels, where it comes from, the only C it is for."""

    function: FromTargets
    formula: str
    source: str
    num_classes: int | None = None

    @property
    def of_p_t(self) -> bool:
        """Return whether the value for an integer label is a function of p_t alone, as its decorator says."""
        return self.function.of_p_t


ZOO: dict[str, Entry] = {
    "ace": Entry(ace, "phi0 |ln(phi1 p_t)|", "Raymond et al. 2023, arXiv 2209.08907"),
    "additive_margin": Entry(
        additive_margin, "-ln softmax(scale (z_j - margin [j = t]))_t", "Wang et al. 2018, arXiv 1801.05599"
    ),
    "amse": Entry(amse, "(1/C) sum_c (p_c - a y_c)^2", "Wang et al. 2025, arXiv 2507.17692"),
    "anl_ce": Entry(
        anl_ce,
        "alpha ln p_t / sum_c ln p_c + beta (1 - (A + ln p_t) / sum_c (A + ln p_c)), A = -ln(min_prob)",
        "Ye et al. 2023, NeurIPS",
    ),
    "anl_fl": Entry(
        anl_fl,
        "alpha f(p_t) / sum_c f(p_c) + beta (1 - (A - f(p_t)) / sum_c (A - f(p_c))), f focal, A = f(min_prob)",
        "Ye et al. 2023, NeurIPS",
    ),
    "asymmetric": Entry(
        asymmetric,
        "-(1 - p_t)^gamma_pos ln p_t if present, -p^gamma_neg ln(1 - p) if absent, p = max(0, p_1 - clip)",
        "Ridnik et al. 2021, arXiv 2009.14119",
        num_classes=2,
    ),
    "baikal": Entry(baikal, "-(1/C) sum_c (ln p_c - y_c / p_c)", "Gonzalez and Miikkulainen 2020, arXiv 1905.11528"),
    "balanced_softmax": Entry(
        balanced_softmax, "-ln(n_t e^(z_t) / sum_c n_c e^(z_c)), n = class_counts", "Ren et al. 2020, arXiv 2007.10740"
    ),
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
    "dual_focal": Entry(
        dual_focal,
        "-(1 - p_t + p_j)^gamma ln p_t, p_j the largest below p_t",
        "Tao, Dong and Xu 2023, arXiv 2305.13665",
    ),
    "focal": Entry(focal, "-(1 - p_t)^gamma ln p_t", "Lin et al. 2017, arXiv 1708.02002"),
    "gce": Entry(gce, "(1 - max(p_t, k)^q) / q", "Zhang and Sabuncu 2018, arXiv 1805.07836"),
    "jal_ce": Entry(
        jal_ce,
        "alpha ln p_t / sum_c ln p_c + (beta/C) sum_c (p_c - a y_c)^2",
        "Wang et al. 2025, arXiv 2507.17692",
    ),
    "jal_fl": Entry(
        jal_fl,
        "alpha f(p_t) / sum_c f(p_c) + (beta/C) sum_c (p_c - a y_c)^2, f focal",
        "Wang et al. 2025, arXiv 2507.17692",
    ),
    "label_smoothing": Entry(
        label_smoothing, "-(1 - alpha) ln p_t - (alpha/C) sum_c ln p_c", "Szegedy et al. 2016, arXiv 1512.00567"
    ),
    "logit_adjustment": Entry(
        logit_adjustment, "-ln softmax(z + tau ln class_counts)_t", "Menon et al. 2021, arXiv 2007.07314"
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
