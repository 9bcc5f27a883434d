"""Every registered strategy, and a count of compilations."""

import jax
import pytest
from strategy_cases import OURS

from edl_jax.strategies import names


@pytest.fixture(params=["ChaoticES", *names()])
def strategy(request):
    """Return a strategy's name; evosax's own algorithms may promote ranks, ours may not."""
    with jax.numpy_rank_promotion("raise" if request.param in OURS else "allow"):
        yield request.param
