"""Every registered strategy, and a count of compilations."""

import contextlib
import logging

import jax
import pytest
from strategy_cases import OURS

from edl_jax.strategies import names


@pytest.fixture(params=["ChaoticES", *names()])
def strategy(request):
    """Return a strategy's name; evosax's own algorithms may promote ranks, ours may not."""
    with jax.numpy_rank_promotion("raise" if request.param in OURS else "allow"):
        yield request.param


@pytest.fixture
def compilations():
    """Return a context manager that yields the list of names of functions compiled inside it."""

    @contextlib.contextmanager
    def record():
        names: list[str] = []

        class Handler(logging.Handler):
            def emit(self, record):
                message = record.getMessage()
                if message.startswith("Compiling jit("):
                    names.append(message.removeprefix("Compiling jit(").split(")")[0])

        logger, handler = logging.getLogger("jax._src.interpreters.pxla"), Handler()
        logger.addHandler(handler)
        try:
            with jax.log_compiles():
                yield names
        finally:
            logger.removeHandler(handler)

    return record
