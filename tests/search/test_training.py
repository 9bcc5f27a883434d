"""How students are trained: optimizer and learning rates, augmentation, dropout, the size of images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from student_cases import TABLES, small_split

from edl_jax import data, search
from edl_jax.core.errors import UserError
from edl_jax.search import students
from edl_jax.search.config import SearchConfig
from edl_jax.search.students import StudentConfig
from edl_jax.search.students.layers import no_tap
from edl_jax.search.tables import logit_gradient
from edl_jax.search.training import Training

STEPS = 8


def reference(config, student):
    """Return what optax says of the settings, written out."""
    lr = config.learning_rate(student)
    if config.schedule == "cosine":
        warm = round(config.warmup * STEPS)
        lr = optax.warmup_cosine_decay_schedule(0.0, lr, warm, STEPS)
    if config.optimizer == "adam":
        return optax.adamw(lr, b1=config.momentum, weight_decay=config.weight_decay)
    decay = optax.add_decayed_weights(config.weight_decay)
    return optax.chain(decay, optax.sgd(lr, momentum=config.momentum, nesterov=True))


@pytest.mark.parametrize(
    "settings",
    [{"optimizer": "adam", "schedule": "cosine", "warmup": 0.25}, {"schedule": "cosine", "warmup": 0.25}],
    ids=["adam", "sgd"],
)
def test_weights_follow_optax(settings):
    config = StudentConfig("mlp_small", batch_size=16, steps=STEPS, weight_decay=0.01, **settings)
    split = small_split()
    training = Training(config, split, 0)
    student = training.student
    population = training.trainer.init(training.key, 1)
    # In two calls: the schedule goes on from where it was.
    for start, stop in ((0, 3), (3, STEPS)):
        population = training.trainer.advance(
            population, TABLES[:1], training.examples, training.rows, start, stop, key=training.noise
        )
    params = student.init(training.key)[0]
    optimizer = reference(config, student)
    state = optimizer.init(params)

    def gradient(params, inputs, labels):
        logits, pull = jax.vjp(lambda params: student.apply(params, {}, inputs, True, no_tap)[0], params)
        return pull(logit_gradient(TABLES[0], logits, labels) / len(labels))[0]

    @jax.jit
    def step(params, state, inputs, labels):
        updates, state = optimizer.update(gradient(params, inputs, labels), state, params)
        return optax.apply_updates(params, updates), state

    for chosen in np.asarray(training.rows):
        inputs = student.prepare(jnp.asarray(split.train_images[chosen]), None)
        params, state = step(params, state, inputs, jnp.asarray(split.train_labels[chosen]))
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), params, student.init(training.key)[0])
    assert min(jax.tree.leaves(moved)) > 1e-4
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-3, atol=2e-6), population.params, params)


def test_augmentation_is_that_of_the_step_and_the_same_for_all():
    split = small_split(channels=3)
    config = StudentConfig("mlp_small", batch_size=16, steps=4, rand_augment=9)
    training = Training(config, split, 0)
    tables = TABLES[jnp.array([0, 0, 1])]
    race = training.race(tables)
    assert race.loss[0] == race.loss[1] != race.loss[2]
    assert Training(config, split, 0).race(tables).loss[0] == race.loss[0]
    assert Training(dataclasses.replace(config, rand_augment=0), split, 0).race(tables).loss[0] != race.loss[0]
    batch = training.examples.inputs[:16]
    steps = [jax.random.fold_in(training.noise, step) for step in (0, 1)]
    plain, first, second = (np.asarray(training.student.prepare(batch, key)) for key in (None, *steps))
    assert (first != plain).any()
    assert (first != second).any()
    # Evaluation has no key, and images as they are.
    np.testing.assert_array_equal(plain, split.images.normalise(batch).reshape(16, -1).T)


def test_dropout_is_on_where_it_is_asked_for():
    split = small_split(channels=3)
    key = jax.random.key(0)
    for dropout in (False, True):
        config = StudentConfig("resnet9v2", batch_size=16, steps=1, rand_augment=1, dropout=dropout)
        batch = jnp.asarray(split.train_images[:64])
        student = config.noisy(students.create("resnet9v2", split), split.images)
        assert bool((student.prepare(batch, key)[1] == 0).any()) == dropout


def test_images_of_another_size(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="images are 12x12 pixels, expected 24x24"):
        Training(StudentConfig("mlp_small", image_size=24, batch_size=8, steps=1), small_split(), 0)
    with pytest.raises(UserError, match="rand_augment needs images with 1 or 3 channels, these have 2"):
        Training(StudentConfig("mlp_small", batch_size=8, steps=1, rand_augment=1), small_split(channels=2), 0)

    def load(*_, image_size=None):
        raise UserError(f"asked for {image_size}")

    monkeypatch.setattr(data, "load", load)
    with pytest.raises(UserError, match="asked for 24"):
        search.run(SearchConfig(image_size=24), out=tmp_path / "s")


def test_a_limit_ends_candidates_without_a_race_too():
    settings = SearchConfig(race=False, steps=100)
    assert settings.rungs.rungs == (100,)
    limited = dataclasses.replace(settings, racing=dataclasses.replace(settings.racing, limit=0.8)).rungs
    assert (limited.rungs, limited.kept, limited.limit) == ((25, 50, 100), (1.0, 1.0), 0.8)
