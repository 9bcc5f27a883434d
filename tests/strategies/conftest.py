"""Every registered strategy."""

import jax
import pytest
from strategy_cases import CHOSEN, OURS

from edl_jax.strategies import names


@pytest.fixture(params=[n if n in CHOSEN else pytest.param(n, marks=pytest.mark.slow) for n in ("ChaoticES", *names())])
def strategy(request):
    """Return a strategy's name, in fast runs ours and some of evosax's: each takes several programs.

    evosax's own algorithms may promote ranks, ours may not.
    """
    with jax.numpy_rank_promotion("raise" if request.param in OURS else "allow"):
        yield request.param
