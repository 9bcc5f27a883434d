"""Students: their forward passes beside Flax's, many at once beside one alone, and those that are not finite."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from student_cases import CLASSES, TABLES, small_split

from edl_jax.core.errors import UserError
from edl_jax.search import students
from edl_jax.search.split import batches
from edl_jax.search.students import layers
from edl_jax.search.students.layers import no_tap
from edl_jax.search.tables import logit_gradient
from edl_jax.training.optimizer import sgd

COUNT = 6


def batch(split):
    return jnp.asarray(split.train_images[:COUNT]), split.images.normalise(jnp.asarray(split.train_images[:COUNT]))


def flat_rows(kernel, height, width, channels):
    """Return a kernel for rows (channel, row, column) as one for Flax's order (row, column, channel)."""
    return kernel.reshape(channels, height, width, -1).transpose(1, 2, 0, 3).reshape(kernel.shape)


class FlaxLeNet(nn.Module):
    """LeNet-5 in Flax's own layers."""

    @nn.compact
    def __call__(self, x):
        if x.shape[1] < 32:
            low = (32 - x.shape[1]) // 2
            x = jnp.pad(x, ((0, 0), (low, 32 - x.shape[1] - low), (low, 32 - x.shape[2] - low), (0, 0)))
        for features, name in ((6, "conv1"), (16, "conv2")):
            x = nn.avg_pool(jnp.tanh(nn.Conv(features, (5, 5), padding="VALID", name=name)(x)), (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        x = jnp.tanh(nn.Dense(120, name="dense1")(x))
        x = jnp.tanh(nn.Dense(84, name="dense2")(x))
        return nn.Dense(CLASSES, name="head")(x)


@pytest.mark.parametrize(
    ("side", "channels", "pooled"),
    [
        (28, 1, 5),
        pytest.param(32, 3, 5, marks=pytest.mark.slow),
        pytest.param(37, 1, 6, marks=pytest.mark.slow),
    ],
)
def test_lenet5_is_flaxs(key, side, channels, pooled):
    split = small_split(side, channels, COUNT, 4)
    student = students.create("lenet5", split)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(student.init, key)[0]
    params = jax.tree.map(lambda x: jnp.asarray(0.1 * rng.normal(size=x.shape), jnp.float32), shapes)
    raw, x = batch(split)
    theirs = {name: {"kernel": layer.kernel, "bias": layer.bias} for name, layer in params.items()}
    theirs["dense1"]["kernel"] = flat_rows(params["dense1"].kernel, pooled, pooled, 16)
    expected = jax.jit(FlaxLeNet().apply)({"params": theirs}, x)
    found = jax.jit(lambda params, raw: student.logits(params, {}, student.prepare(raw, None)))(params, raw)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_xavier_is_glorots(key):
    layer = layers.xavier(key, 5, 5, 6, 16)
    limit = (6 / (25 * (6 + 16))) ** 0.5
    assert np.abs(layer.kernel).max() == pytest.approx(limit, rel=0.01)
    assert not layer.bias.any()


@pytest.mark.parametrize(("size", "stride", "pad"), [(3, 1, 1), (3, 2, 1), (1, 2, 0), (5, 1, 0)])
def test_conv_is_laxs(size, stride, pad):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, 9, 8, 7)), jnp.float32)
    layer = layers.Affine(jnp.asarray(rng.normal(size=(size, size, 3, 5)), jnp.float32), jnp.arange(5.0))
    numbers = ("CHWN", "HWIO", "CHWN")

    @jax.jit
    def both(x):
        y = jax.lax.conv_general_dilated(
            x, layer.kernel, (stride, stride), ((pad, pad),) * 2, dimension_numbers=numbers
        )
        return layers.conv(layer, x, stride, pad), y + layer.bias[:, None, None, None]

    np.testing.assert_allclose(*both(x), atol=1e-5)


@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_is_flaxs(key, train):
    x = 2.0 + jax.random.normal(key, (3, 4, 5, 6))
    layer, running = layers.Norm(jnp.arange(1.0, 4.0), jnp.arange(3.0)), layers.Norm(jnp.full(3, 2.0), jnp.full(3, 0.5))
    variables = {
        "params": {"scale": layer.scale, "bias": layer.shift},
        "batch_stats": {"var": running.scale, "mean": running.shift},
    }
    module = nn.BatchNorm(use_running_average=not train, momentum=layers.MOMENTUM, epsilon=layers.EPSILON)
    theirs = jax.jit(lambda x: module.apply(variables, x.transpose(3, 1, 2, 0), mutable=["batch_stats"]))
    expected, new = theirs(x)
    y, found = jax.jit(lambda x: layers.batch_norm(layer, running, x, train))(x)
    np.testing.assert_allclose(y, expected.transpose(3, 1, 2, 0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.scale, new["batch_stats"]["var"], rtol=1e-5)
    np.testing.assert_allclose(found.shift, new["batch_stats"]["mean"], rtol=1e-5)


@pytest.mark.parametrize("name", ["convnet", "resnet9v2"])
def test_networks_of_nlfs_are_of_its_size(key, name):
    split = small_split(12, 3, COUNT, 4)
    student = students.create(name, split)
    params, stats = jax.eval_shape(student.init, key)
    counts = {"convnet": 336 + 2616 + 10416 + 2 * 84, "resnet9v2": 224 + (1168 + 2 * 2320) + (4640 + 2 * 9248)}
    counts["resnet9v2"] += (8 * 16 + 16) + (16 * 32 + 32) + 2 * (8 + 16 + 16 + 16 + 32 + 32)
    last = {"convnet": 48, "resnet9v2": 32}[name]
    assert sum(x.size for x in jax.tree.leaves(params)) == counts[name] + (last + 1) * CLASSES
    raw, _ = batch(split)

    def forward(params, stats, key):
        inputs = student.prepare(raw, key)
        return student.apply(params, stats, inputs, True, no_tap)[0], inputs[1]

    logits, mask = jax.eval_shape(forward, params, stats, key)
    assert logits.shape == (COUNT, CLASSES)
    assert mask.shape == (last, COUNT)
    # Dropout keeps the mean, and drops as often as said.
    mask = np.asarray(student.prepare(jnp.zeros((400, 12, 12, 3), jnp.uint8), key)[1])
    rate = {"convnet": 0.1, "resnet9v2": 0.5}[name]
    assert (mask == 0).mean() == pytest.approx(rate, abs=0.02)
    assert mask.max() == pytest.approx(1 / (1 - rate))


def test_linear_features_are_standardised_means_of_regions():
    split = small_split(16, 1, 200, 20)
    student = students.create("linear", split)
    found = student.embed(split.train_images)
    assert found.shape == (200, 2048)
    np.testing.assert_allclose(found.mean(0), 0.0, atol=1e-4)
    np.testing.assert_allclose(np.square(found).sum(1).mean(), 1.0, rtol=1e-3)
    # Features of one region do not change with pixels that its windows do not meet.
    changed = np.array(split.train_images[:3])
    changed[:, 8:, :] = 0
    same = (student.embed(changed) == found[:3]).reshape(3, 128, 4, 4)
    assert same[:, :, 0].all()
    assert not same[:, :, 2].any()


def train_alone(student, optimizer, table, split, rows, params, stats):
    """Return parameters after plain steps on one candidate, each a gradient of JAX's."""

    @jax.jit
    def gradient(params, stats, inputs, labels):
        def objective(params):
            logits, new = student.apply(params, stats, inputs, True, no_tap)
            slopes = jax.lax.stop_gradient(logit_gradient(table, logits, labels))
            return jnp.sum(slopes * logits) / len(labels), new

        return jax.grad(objective, has_aux=True)(params)

    state = optimizer.init(params)
    for chosen in rows:
        inputs = student.prepare(jnp.asarray(student.embed(split.train_images[chosen])), None)
        found, stats = gradient(params, stats, inputs, jnp.asarray(split.train_labels[chosen]))
        updates, state = optimizer.update(found, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize(
    ("name", "vectorised"),
    [
        ("mlp_small", False),
        pytest.param("mlp_small", True, marks=pytest.mark.slow),
        pytest.param("convnet", False, marks=pytest.mark.slow),
        pytest.param("lenet5", False, marks=pytest.mark.slow),
    ],
)
def test_many_at_once_are_each_alone(key, name, vectorised):
    split = small_split()
    student, optimizer = students.create(name, split), sgd(0.05)
    trainer = students.Trainer(student, optimizer, vectorised=vectorised)
    examples = students.Examples.of(student, split.train_images, split.train_labels)
    rows = batches(0, len(split.train_labels), 4, 16)
    population = trainer.init(key, len(TABLES))
    active = jnp.array([True, True, True, False])
    population = trainer.advance(population, TABLES, examples, jnp.asarray(rows), 0, 2, active=active)
    population = trainer.advance(population, TABLES, examples, jnp.asarray(rows), 2, 4, active=active)
    assert population.finite.tolist() == [True, True, False, True]
    params, stats = student.init(key)
    for p in (0, 1):
        expected = train_alone(student, optimizer, TABLES[p], split, rows, params, stats)
        found = jax.tree.map(lambda x, p=p: x[p], population.params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)
    # What is not finite, and what is not active, is as it was.
    for p in (2, 3):
        jax.tree.map(lambda a, b, p=p: np.testing.assert_array_equal(a[p], b), population.params, params)


def test_students_learn_and_are_scored(key, compilations):
    split = small_split()
    student = students.create("linear", split)
    trainer = students.Trainer(student, sgd(student.lr))
    evaluator = students.Evaluator(student, split.validation_images, split.validation_labels, batch_size=50)
    examples = students.Examples.of(student, split.train_images, split.train_labels)
    rows = jnp.asarray(batches(0, len(split.train_labels), 40, 32))
    population = trainer.init(key, len(TABLES))
    chance = evaluator(population)
    assert chance.loss[0] == pytest.approx(np.log(CLASSES), rel=1e-5)
    population = trainer.advance(population, TABLES, examples, rows, 0, 40)
    with compilations() as counts:
        score = evaluator(population)
        part = evaluator(population, count=70)
    assert not counts["jit(_sums)"]
    assert (score.error[[0, 1, 3]] < 0.1).all()
    assert (score.loss[[0, 1, 3]] < chance.loss[0]).all()
    assert np.isinf(score.error[2])
    assert np.isinf(score.loss[2])
    inputs = student.prepare(jnp.asarray(student.embed(split.validation_images[:70])), None)
    logits = student.logits(jax.tree.map(lambda x: x[1], population.params), {}, inputs)
    assert part.error[1] == pytest.approx(np.mean(np.argmax(np.asarray(logits), 1) != split.validation_labels[:70]))
    idle = evaluator(population, active=np.array([True, False, True, True]))
    assert np.isinf(idle.error[1])
    assert idle.error[0] == score.error[0]


@pytest.mark.parametrize("vectorised", [False, True])
def test_a_student_that_rests_does_not_end(key, vectorised):
    """Not even with a candidate that would end it."""
    split = small_split()
    student = students.create("linear", split)
    trainer = students.Trainer(student, sgd(student.lr), vectorised=vectorised)
    examples = students.Examples.of(student, split.train_images, split.train_labels)
    rows = jnp.asarray(batches(0, len(split.train_labels), 1, 16))
    active = jnp.array([True, True, False, True])
    population = trainer.advance(trainer.init(key, len(TABLES)), TABLES, examples, rows, 0, 1, active=active)
    assert population.finite.all()


def test_weights_that_became_infinite_score_worst(key):
    split = small_split()
    student = students.create("mlp_small", split)
    evaluator = students.Evaluator(student, split.validation_images, split.validation_labels)
    population = students.Trainer(student, sgd(0.1)).init(key, 2)
    head = population.params["head"]
    params = {**population.params, "head": head._replace(bias=head.bias.at[0, 0].set(jnp.inf))}
    score = evaluator(population._replace(params=params))
    assert np.isinf(score.error).tolist() == [True, False]


def test_bad_input(key):
    split = small_split()
    with pytest.raises(UserError, match="unknown student 'lenet': did you mean lenet5"):
        students.create("lenet", split)
    with pytest.raises(UserError, match="6x6 pixels, expected at least 8x8 for linear"):
        students.create("linear", small_split(6, 1, 4, 2))
    with pytest.raises(UserError, match="33 candidates at once, expected 1 to 32"):
        students.bucket(33)
    assert [students.bucket(count) for count in (1, 8, 9, 25, 32)] == [8, 8, 16, 32, 32]
    trainer = students.Trainer(students.create("mlp_small", split), sgd(0.1))
    examples = students.Examples(jnp.zeros((4, 12, 12, 1), jnp.uint8), jnp.zeros(4, jnp.int32))
    with pytest.raises(UserError, match="steps 0 to 5, expected at most the 3"):
        trainer.advance(trainer.init(key, 1), TABLES[:1], examples, jnp.zeros((3, 2), jnp.int32), 0, 5)
