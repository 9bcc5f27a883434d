"""A loss beside cross-entropy: its shape and its gradient, drawn by `python run.py losses NAME --plot FILE`."""

from pathlib import Path

import numpy as np

from edl_jax.loss import Loss, cross_entropy, margin_profile
from edl_jax.plot.style import BLUE, GREY, ORANGE, PANEL, dress, new_figure, write
from edl_jax.plot.text import literal

_MARGINS = np.linspace(-20.0, 16.0, 2001)
_TOP = 6.0  # of the axis of losses: cross-entropy at p_t = 0.0025


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
