"""Losses beside cross-entropy: their shape and their gradient. `python run.py losses NAME --plot FILE` draws one."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edl_jax.loss import Loss, cross_entropy, margin_profile
from edl_jax.plot.style import BLACK, BLUE, COLOURS, GREY, ORANGE, PANEL, SMALL, dress, log_numbers, new_figure, write
from edl_jax.plot.text import literal

_MARGINS = np.linspace(-20.0, 16.0, 2001)
_TOP = 6.0  # of the axis of losses: cross-entropy at p_t = 0.0025


class Profile(NamedTuple):
    """A loss along the line on which all wrong classes are equally likely.

    Attributes:
      values: `[points]` of the loss.
      pull: `[points]` norm of its gradient over cross-entropy's.
    """

    values: np.ndarray
    pull: np.ndarray


def profile(loss: Loss, p: np.ndarray, num_classes: int = 10) -> Profile:
    """Return the profile of a loss at probabilities `[points]` of the true class, in (0, 1)."""
    margins = np.log(p) - np.log1p(-p) + np.log(num_classes - 1)
    values, norms = margin_profile(loss, margins, num_classes)
    # The gradient of cross-entropy is p minus the label: 1 - p for the true class, the same shared among the others.
    return Profile(values, norms / ((1.0 - p) * np.sqrt(1.0 + 1.0 / (num_classes - 1))))


def draw_several(path: Path, p: np.ndarray, profiles: Mapping[str, Profile]) -> None:
    """Draw several losses against p_t: their values less their least one, and their pull beside cross-entropy's.

    Args:
      path: file to write, as its suffix says; its folder is made.
      p: `[points]` probabilities of the true class.
      profiles: label -> profile at those.
    """
    width, height = PANEL
    figure = new_figure(2 * width, height + 0.35)
    left, right = figure.subplots(1, 2)
    right.axhline(1.0, color=BLACK, lw=0.9, ls=":", label="cross-entropy")
    for i, (label, each) in enumerate(profiles.items()):
        style = {"color": COLOURS[i % len(COLOURS)], "ls": "-" if i < len(COLOURS) else "--", "lw": 1.4}
        left.plot(p, each.values - each.values.min(), label=literal(label), **style)
        right.plot(p, np.where(each.pull > 0.0, each.pull, np.nan), **style)
    left.set(xlabel="$p_t$, probability of the true class", ylabel="loss, its minimum at 0", ylim=(-0.15, _TOP))
    right.set(
        xlabel="$p_t$ (logit scale)",
        ylabel="norm of the gradient over cross-entropy's",
        xscale="logit",
        yscale="log",
        ylim=(1e-2, 1e2),
    )
    right.set_xticks([0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999], ["0.001", "0.01", "0.1", "0.5", "0.9", "0.99", "0.999"])
    right.set_xticks([], minor=True)
    log_numbers(right.yaxis)
    for axis in (left, right):
        dress(axis)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=SMALL, frameon=False)
    write(path, figure)


def draw(path: Path, name: str, loss: Loss, num_classes: int = 10) -> None:
    """Draw value against p_t and gradient norm against the margin, the wrong classes equal.

    Args:
      path: file to write, as its suffix says; its folder is made.
      name: what the legend calls the loss.
      loss: the loss.
      num_classes: number of classes C.
    """
    p = 1.0 / (1.0 + (num_classes - 1) * np.exp(-_MARGINS))
    width, height = PANEL
    figure = new_figure(2 * width, height)
    left, right = figure.subplots(1, 2)
    lows, highs = [], []
    for label, function, style in (
        ("cross-entropy", cross_entropy, {"color": ORANGE, "ls": "--"}),
        (literal(name), loss, {"color": BLUE}),
    ):
        values, norms = margin_profile(function, _MARGINS, num_classes)
        left.plot(p, values, label=label, **style)
        # A gradient of 0 has no place on a logarithmic axis.
        right.semilogy(_MARGINS, np.where(norms > 0.0, norms, np.nan), label=label, **style)
        shown = values[p > 0.02]
        lows.append(shown.min())
        highs.append(shown.max())
    low, high = min(lows), min(max(highs), max(_TOP, 1.2 * highs[-1]))
    room = 0.04 * (high - low)
    left.set(
        xlabel="$p_t$, probability of the true class", ylabel="loss", title="Shape", ylim=(low - room, high + room)
    )
    right.axvline(0.0, color=GREY, lw=0.8, ls=":")
    right.set(
        xlabel=f"logit of the true class minus the (equal) others, {num_classes} classes",
        ylabel="norm of the gradient",
        title="Gradient",
        ylim=(1e-8, None),
    )
    for axis in (left, right):
        dress(axis)
        axis.legend()
    write(path, figure)
