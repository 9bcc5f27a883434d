"""Programs that the studies' runs share."""

import sys

import pytest
from program_cases import shared_trainers

from edl_jax.downstream import seeds, single
from edl_jax.study import stages
from edl_jax.study.transfer import study as transfer
from edl_jax.synthetic import drop_in


@pytest.fixture(scope="module", autouse=True)
def shared_programs():
    """Equal programs are compiled once; tests/downstream tests what is compiled."""
    with shared_trainers(seeds, single, transfer, sys.modules[stages.train.__module__]):
        yield


@pytest.fixture(scope="module", autouse=True)
def quick_calibration():
    """Losses are calibrated for up to 100 classes: 1,000 cost the most."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drop_in, "NUM_CLASSES", (2, 10, 100))
        yield
