"""The losses of a report: their shapes and how hard they pull, beside cross-entropy."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial

import jax
import numpy as np

from edl_jax import loss
from edl_jax.core import jax_settings, status
from edl_jax.core.errors import reason
from edl_jax.plot.loss import Profile, draw_several, profile
from edl_jax.study.loss_spec import LossSpec
from edl_jax.study.report.drawing import drawn
from edl_jax.study.report.page import Block, Cell, Column, Table, Text, cell

_AT = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)  # p_t at which the table gives the pull
_REACH = 8.0  # of the logit of p_t
_POINTS = 320
_LOGGER = logging.getLogger("edl_jax")


def blocks(specs: Sequence[LossSpec], num_classes: int) -> list[Block]:
    """Return the figure and the table of some losses.

    A loss that cannot be had any more, such as one whose file has moved, is named in a line.

    Args:
      specs: losses, each once.
      num_classes: for which they are computed.
    """
    status.say("computing the shapes of the losses")
    logits = np.linspace(-_REACH, _REACH, _POINTS + 1)
    p = np.concatenate([1.0 / (1.0 + np.exp(-logits)), np.array(_AT)])
    profiles: dict[str, Profile] = {}
    failed: dict[str, list[str]] = {}
    for spec in specs:
        try:
            # Little work, for which an accelerator that others may need is not asked.
            with jax_settings.fixed(), jax.default_device(jax.local_devices(backend="cpu")[0]):
                profiles[spec.title] = profile(loss.get(spec.name, **spec.hyper_parameters), p, num_classes)
        except Exception as error:  # of any kind: a report does not hang on one loss, or on a device that is absent
            _LOGGER.debug("loss %s", spec.text, exc_info=error)
            failed.setdefault(reason(error), []).append(spec.title)
    found: list[Block] = []
    if profiles:
        curves = {title: Profile(*(part[: len(logits)] for part in each)) for title, each in profiles.items()}
        caption = "The wrong classes are equally likely. Pull: a loss with pull 1 has cross-entropy's gradient there."
        wanted = {("Shapes and pulls", caption): partial(draw_several, p=p[: len(logits)], profiles=curves)}
        found += [*drawn(wanted), _table(profiles, num_classes)]
    found += [Text(f"Not drawn: {', '.join(titles)} ({why})", "warning") for why, titles in failed.items()]
    return found


def _table(profiles: Mapping[str, Profile], num_classes: int) -> Table:
    columns = [Column("loss"), *(Column(f"p_t = {at:g}", True) for at in _AT)]
    rows = [[Cell(title), *(cell(float(x), ".3g") for x in each.pull[-len(_AT) :])] for title, each in profiles.items()]
    title = f"Norm of the gradient over cross-entropy's, {num_classes} classes"
    return Table(title, columns, rows)
