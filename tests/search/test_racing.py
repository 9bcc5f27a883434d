"""Races: the full protocol among them, who goes on, and that nobody is trained twice."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from student_cases import CROSS_ENTROPY, SQUARED_ERROR, small_split

from edl_jax.core.errors import UserError
from edl_jax.search import racing, students
from edl_jax.search.racing import RacingConfig
from edl_jax.search.split import batches
from edl_jax.training.optimizer import sgd

# Of cross-entropy from far too weak to strong, one that ascends, one that is not finite.
TABLES = np.stack([CROSS_ENTROPY * s for s in (0.003, 1, 0.1, -1, 3, 0.03)] + [CROSS_ENTROPY * np.nan, SQUARED_ERROR])
BAD = 6
CONFIG = RacingConfig(rungs=(4, 8, 16), kept=(0.5, 0.25), least=1, examples=60)


@pytest.fixture(scope="module")
def task():
    split = small_split()
    student = students.create("linear", split)
    return (
        students.Trainer(student, sgd(student.lr)),
        students.Evaluator(student, split.validation_images, split.validation_labels, batch_size=60),
        students.Examples.of(student, split.train_images, split.train_labels),
        batches(0, len(split.train_labels), 16, 32),
    )


def race(task, config, tables=TABLES, **options):
    trainer, evaluator, examples, rows = task
    return racing.run(trainer, evaluator, tables, examples, rows, jax.random.key(0), config, **options)


def alone(task, table, steps):
    """Return the population of one candidate trained without a break."""
    trainer, _, examples, rows = task
    return trainer.advance(
        trainer.init(jax.random.key(0), 8), jnp.stack([table] * 8), examples, jnp.asarray(rows), 0, steps
    )


def test_a_race_keeps_the_better_and_goes_on_from_where_they_are(task):
    seen = []
    found = race(task, CONFIG, on_steps=lambda steps, running: seen.append((steps, running)))
    assert seen == [(4, 8), (8, 4), (16, 2)]
    assert np.bincount(found.steps, minlength=17)[[4, 8, 16]].tolist() == [4, 2, 2]
    assert found.steps[BAD] == 4
    first = found.errors[0]
    assert first[found.steps > 4].max() <= first[(found.steps == 4)].min()
    for p in np.flatnonzero(found.steps == 16):
        score = task[1](alone(task, TABLES[p], 16))
        assert found.error[p] == pytest.approx(score.error[0])
        assert found.loss[p] == pytest.approx(score.loss[0], rel=1e-4)
    # The order of fitness is that of the race; what is not finite is worst.
    for earlier, later in ((4, 8), (8, 16)):
        finite = np.isfinite(found.fitness) & (found.steps == earlier)
        assert found.fitness[finite].min() >= found.fitness[found.steps == later].max()
    assert np.isinf(found.fitness).tolist() == [p == BAD for p in range(len(TABLES))]


def test_the_full_protocol_trains_all_and_evaluates_on_all(task):
    found = race(task, racing.full(16))
    assert found.steps.tolist() == [16] * len(TABLES)
    np.testing.assert_array_equal(found.fitness, found.error)
    assert found.error[1] == task[1](alone(task, TABLES[1], 16)).error[0]
    assert np.argmax(found.error[:BAD]) == 3
    assert np.isinf(found.fitness[BAD])


def test_more_candidates_than_a_program_takes(task):
    many = np.concatenate([TABLES] * 5)
    found = race(task, racing.full(8), many)
    np.testing.assert_array_equal(found.error.reshape(5, -1), np.tile(found.error[: len(TABLES)], (5, 1)))


def test_vectorised_race_is_the_same(task):
    trainer, evaluator, examples, rows = task
    other = students.Trainer(trainer.student, trainer.optimizer, vectorised=True)
    found = race((other, evaluator, examples, rows), CONFIG)
    expected = race(task, CONFIG)
    np.testing.assert_array_equal(found.steps, expected.steps)
    np.testing.assert_allclose(found.error, expected.error, atol=1 / 60)


def test_the_hopeless_end_at_a_rung(task):
    """With a fitness that is infinite; those that go on are trained as if there were no limit."""
    config = RacingConfig(rungs=(4, 16), kept=(1.0,), examples=60)
    free = race(task, config)
    limit = 0.5
    bad = free.errors[0] > limit
    assert 1 < bad.sum() < len(TABLES) - 1
    found = race(task, dataclasses.replace(config, limit=limit))
    np.testing.assert_array_equal(found.steps, np.where(bad, 4, 16))
    np.testing.assert_array_equal(found.fitness, np.where(bad, np.inf, free.error))
    np.testing.assert_array_equal(found.error, np.where(bad, free.errors[0], free.error))


def test_nobody_is_finite(task):
    found = race(task, CONFIG, TABLES[[BAD, BAD]])
    assert np.isinf(found.fitness).all()
    assert found.steps.tolist() == [4, 4]


def test_bad_input(task):
    for options, message in (
        ({"rungs": (50, 25), "kept": (0.5,)}, r"rungs are \(50, 25\), expected ascending"),
        ({"rungs": (25, 50)}, "kept has 3 shares for 2 rungs"),
        ({"kept": (0.2, 0.3, 0.1)}, r"kept is .*, expected descending shares"),
        ({"least": 0}, "least is 0, expected at least 1"),
        ({"limit": 0.0}, "limit is 0.0, expected a positive error"),
    ):
        with pytest.raises(UserError, match=message):
            RacingConfig(**options)
    with pytest.raises(UserError, match="steps 0 to 500, expected at most the 16"):
        race(task, racing.full(500))
