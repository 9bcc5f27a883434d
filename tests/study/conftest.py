"""Programs that the studies' runs share."""

import sys

import pytest
from program_cases import shared_trainers

from edl_jax.downstream import seeds, single
from edl_jax.study import stages
from edl_jax.study.transfer import study as transfer


@pytest.fixture(scope="module", autouse=True)
def shared_programs():
    """Equal programs are compiled once; tests/downstream tests what is compiled."""
    with shared_trainers(seeds, single, transfer, sys.modules[stages.train.__module__]):
        yield
