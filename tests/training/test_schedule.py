import math

import jax
import numpy as np
import pytest

from edl_jax.core.errors import UserError
from edl_jax.training.schedule import make_schedule, schedules

# Learning rates at some steps of 40, with lr 0.8.
GOLDEN = {
    "constant": {0: 0.8, 20: 0.8, 40: 0.8},
    "cosine": {0: 0.8, 10: 0.4 * (1 + math.sqrt(0.5)), 20: 0.4, 30: 0.4 * (1 - math.sqrt(0.5)), 40: 0.0},
    "linear": {0: 0.8, 10: 0.6, 20: 0.4, 39: 0.02, 40: 0.0},
    "onecycle": {0: 0.032, 6: 0.416, 12: 0.8, 26: 0.4000016, 40: 3.2e-6},
    "step": {0: 0.8, 19: 0.8, 20: 0.08, 29: 0.08, 30: 0.008, 40: 0.008},
}
# The same after 8 steps of warm-up.
WARMED = {
    "constant": {0: 0.0, 4: 0.4, 8: 0.8, 40: 0.8},
    "cosine": {0: 0.0, 4: 0.4, 8: 0.8, 24: 0.4, 40: 0.0},
    "linear": {0: 0.0, 4: 0.4, 8: 0.8, 16: 0.6, 40: 0.0},
    "onecycle": {0: 0.032, 4: 0.416, 8: 0.8, 24: 0.4000016, 40: 3.2e-6},
    "step": {0: 0.0, 4: 0.4, 8: 0.8, 19: 0.8, 20: 0.08, 29: 0.08, 30: 0.008},
}


def rates(schedule, steps):
    return np.asarray(jax.jit(jax.vmap(schedule))(np.array([*steps], np.int32)), np.float64)


@pytest.mark.parametrize(("warmup", "golden"), [(0, GOLDEN), (8, WARMED)])
@pytest.mark.parametrize("name", schedules())
def test_schedule_has_its_golden_values(name, warmup, golden):
    expected = golden[name]
    found = rates(make_schedule(name, 0.8, 40, warmup), expected)
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", schedules())
@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (1, 1), (2, 1), (3, 3)])
def test_shortest_trainings_have_usable_rates(name, total, warmup):
    found = rates(make_schedule(name, 0.8, total, warmup), range(total + 1))
    assert np.all((found >= 0.0) & (found <= 0.8 * (1 + 1e-6)))


def test_milestones_count_whole_trainings_even_where_warm_up_is_longer():
    schedule = make_schedule("step", 1.0, 8, 5)
    np.testing.assert_allclose(rates(schedule, [3, 4, 5, 6]), [0.6, 0.8, 0.1, 0.01], rtol=1e-6)


def test_schedule_is_the_same_in_a_compiled_step():
    schedule = make_schedule("step", 0.8, 40, 8)
    assert float(jax.jit(schedule)(np.int32(20))) == pytest.approx(0.08)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cosin", 0.1, 10), "unknown schedule 'cosin': did you mean cosine"),
        (("cosine", 0.0, 10), "lr is 0.0, expected a positive number"),
        (("cosine", 0.1, 0), "total_steps is 0, expected at least 1"),
        (("cosine", 0.1, 10, 11), r"warmup_steps is 11, expected at least 0 and at most total_steps \(10\)"),
    ],
)
def test_schedule_refuses_what_it_cannot_use(arguments, message):
    with pytest.raises(UserError, match=message):
        make_schedule(*arguments)
