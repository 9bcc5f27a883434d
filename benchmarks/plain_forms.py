"""Networks on a CPU with some of their layers in the form that other backends have, for downstream_vs_torch.py."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import flax.linen as nn

from edl_jax.backend import cpu_conv, cpu_forms
from edl_jax.models import layers

# What is left out -> where it is, and what takes its place.
PARTS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "all of them": (layers, "on_cpu", lambda: False),
    "batch normalisation": (cpu_forms, "BatchNorm", nn.BatchNorm),
    "ReLU": (cpu_forms, "relu", nn.relu),
    "pooling": (cpu_forms, "max_pool_2x2", lambda x: nn.max_pool(x, (2, 2), strides=(2, 2))),
    "blocks": (cpu_conv, "blocks", lambda x, kernel: cpu_conv.convolution(x, kernel, 1, 0)),
    "columns": (cpu_conv, "columns", lambda pad, x, kernel: cpu_conv.convolution(x, kernel, 1, pad)),
    "shifts": (cpu_conv, "shifts", lambda x, kernel: cpu_conv.convolution(x, kernel, 1, 1)),
    "phases": (cpu_conv, "phases", lambda x, kernel: cpu_conv.convolution(x, kernel, 2, 1)),
}


@contextlib.contextmanager
def without(part: str | None) -> Iterator[None]:
    """Let networks be traced without the form `part` of `PARTS`; None changes nothing."""
    if part is None:
        yield
        return
    with mock.patch.object(*PARTS[part]):
        yield
