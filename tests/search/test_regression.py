"""Losses of regression: training, rejection and local search beside JAX's own derivatives, and tables of numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from student_cases import small_split

from edl_jax.core.errors import UserError
from edl_jax.loss.expression import Inputs, compile_function, evomal, parse
from edl_jax.search import kernel_store, ml3, racing, regression, sequence, students, tabular, taylorglo
from edl_jax.search.local_search import Exact, Linearised, LocalSearchConfig
from edl_jax.search.rejection import RejectionConfig, reject
from edl_jax.search.split import batches
from edl_jax.search.tasks import REGRESSION
from edl_jax.training.optimizer import sgd

TEXTS = (
    "square(sub(y, p))",
    "tanh(sub(log(p), mul(y, square(add(y, p)))))",
    "abs(sub(y, p))",
    "add(y, y)",
    "div(min(sqrt(abs(sub(p, y))), max(p, -1)), add(mul(1, p), sign(y)))",
)
pytestmark = pytest.mark.usefixtures("quick_compilation")
TREES = [evomal.from_tree(text) for text in TEXTS]
CONFIG = LocalSearchConfig(steps=3, batch_size=128, inner_lr=1e-3)
STEPS = 6


@pytest.fixture(scope="module")
def table():
    return tabular.load("diabetes")


@pytest.fixture(scope="module")
def split(table):
    return tabular.split(table, 0)


@pytest.fixture(scope="module")
def student(split):
    return students.create("mlp_small", split)


@pytest.fixture(scope="module")
def examples(student, split):
    return tuple(students.Examples.of(student, *part) for part in (split.train, split.validation))


@pytest.fixture(scope="module")
def candidates():
    return regression.encode(TREES)


@pytest.fixture(scope="module")
def trainer(student):
    return students.Trainer(student, sgd(0.01), gradient=regression.gradient)


@pytest.fixture(scope="module")
def drawn(examples):
    return sequence.draw(*examples, 0, steps=CONFIG.steps, batch_size=CONFIG.batch_size)


@pytest.fixture(scope="module")
def linearised(student, drawn):
    return Linearised(regression.slopes, CONFIG, kernel_store.compute(student, drawn, decay=CONFIG.decay))


def test_squared_error_trains_as_it_does_by_autodiff(key, student, trainer, split, examples, candidates):
    rows = batches(0, len(split.train_targets), STEPS, 128)
    evaluator = students.Evaluator(student, *split.validation, batch_size=40)
    found = racing.run(trainer, evaluator, candidates, examples[0], rows, key, racing.full(STEPS))
    params, optimizer = student.init(key)[0], sgd(0.01)

    def mean_squared_error(params, inputs, targets):
        return jnp.mean(jnp.square(student.logits(params, {}, inputs.T)[:, 0] - targets))

    @jax.jit
    def step(params, state, inputs, targets):
        updates, state = optimizer.update(jax.grad(mean_squared_error)(params, inputs, targets), state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for chosen in rows:
        params, state = step(params, state, split.train_inputs[chosen], split.train_targets[chosen])
    expected = float(mean_squared_error(params, *(jnp.asarray(x) for x in split.validation)))
    assert found.fitness[0] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(found.loss, found.error)
    assert found.fitness[0] < found.fitness[3]  # what has no gradient leaves the first weights, but for decay


def test_gradients_are_those_of_the_tree(key):
    trees = [*TREES, taylorglo.expression(np.linspace(-1.0, 1.3, 8))]
    rng = np.random.default_rng(0)
    weights = [1.0 + 0.3 * rng.standard_normal(tree.size) for tree in trees]
    candidates = regression.encode(trees, weights)
    assert candidates.weights.shape == (len(trees), 64)
    assert candidates.tape.op.shape == (len(trees), 32)
    outputs, targets = 2.0 * jax.random.normal(key, (50, 1)), jax.random.normal(jax.random.key(1), (50,))
    found = jax.jit(lambda: jax.lax.map(lambda one: regression.gradient(one, outputs, targets), candidates))()

    @jax.jit
    def expected(f):
        def total(f, tree, weights):
            nothing = jnp.full_like(f, jnp.nan)
            return jnp.sum(compile_function(tree, weights)(Inputs(targets[:, None], f, nothing, nothing)))

        return jnp.stack([jax.grad(total)(f, *pair) for pair in zip(trees, weights, strict=True)])

    np.testing.assert_allclose(found, expected(outputs), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_meta_gradients_are_the_exact_ones(key, student, drawn, linearised, candidates):
    assert drawn.validation_rows.shape == (3, 88)  # of fewer examples all
    exact = Exact(regression.slopes, CONFIG, student, drawn)
    weights = 1.0 + 0.2 * jax.random.normal(key, candidates.weights.shape)

    @jax.jit
    def by_kernel(weights, at):
        def total(weights):
            losses, _ = linearised.task_losses(weights, candidates.tape, at)
            return losses.sum(), losses

        return jax.grad(total, has_aux=True)(weights)

    @jax.jit
    def by_training(weights, at):
        return jax.lax.map(lambda one: jax.value_and_grad(exact.task_loss)(*one, at), (weights, candidates.tape))

    found, losses = by_kernel(weights, next(iter(linearised._linearisations)))
    expected_losses, expected = by_training(weights, drawn.at(0))
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-3)
    assert not np.asarray(found[3]).any()
    for p in (0, 1, 2, 4):
        a, b = np.asarray(found[p]), np.asarray(expected[p])
        assert a @ b > 0.99 * np.linalg.norm(a) * np.linalg.norm(b)
        assert np.linalg.norm(a) == pytest.approx(np.linalg.norm(b), rel=0.05)


@pytest.mark.slow
def test_search_lowers_the_squared_error_of_a_network(linearised):
    """ML3's, which compiles in a fifth of the time of trees."""
    params = jax.tree.map(lambda x: x[None], ml3.init(jax.random.key(0)))
    search = Linearised(ml3.raw_slopes, CONFIG, linearised._linearisations)
    outcome = search(params, None)
    assert outcome.finite.all()
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), outcome.params, params)
    assert min(jax.tree.leaves(moved)) > CONFIG.lr
    at = next(iter(linearised._linearisations))
    start, end = (jax.jit(search.task_losses)(x, None, at)[0] for x in (params, outcome.params))
    assert end < start
    one = jax.tree.map(lambda x: x[0], params)
    outputs, targets = jnp.linspace(-2.0, 2.0, 9)[:, None], jnp.linspace(1.0, -3.0, 9)
    expected = jax.grad(lambda f: jnp.sum(ml3.value(one, f, targets[:, None])))(outputs)
    np.testing.assert_allclose(regression.network_gradient(one, outputs, targets), expected, rtol=1e-5, atol=1e-7)


def test_what_does_not_lower_the_squared_error_is_rejected(student, split, key):
    texts = ("square(sub(y, p))", "add(y, y)", "abs(sub(y, p))", "mul(-1, square(sub(y, p)))", "sign(mul(y, p))")
    candidates = regression.encode([evomal.from_tree(text) for text in texts])
    inputs, targets = split.train
    outputs = np.asarray(student.logits(student.init(key)[0], {}, jnp.asarray(inputs.T)))
    config = RejectionConfig(steps=50)
    scores, rejected = reject(candidates, outputs, targets, config, task=REGRESSION, gradient=regression.gradient)
    assert rejected.tolist() == [False, True, False, True, True]
    assert scores[1] == scores[4] == 0.0
    free = jnp.asarray(outputs[:100])

    @jax.jit
    def descend(free):
        def step(carry, _):
            free, state = carry
            slopes = jax.grad(lambda f: jnp.mean(jnp.square(f[:, 0] - targets[:100])))(free)
            updates, state = optax.adam(0.01).update(slopes, state)
            return (optax.apply_updates(free, updates), state), None

        return jax.lax.scan(step, (free, optax.adam(0.01).init(free)), length=config.steps)[0][0]

    before, after = (np.mean((np.asarray(x)[:, 0] - targets[:100]) ** 2) for x in (free, descend(free)))
    assert scores[0] == pytest.approx(before - after, rel=1e-4)


def test_keys_are_equal_for_what_is_the_same_loss():
    same = regression.keys(
        [evomal.from_tree(t) for t in ("square(sub(y, p))", "mul(sub(p, y), sub(p, y))")]
        + [evomal.from_tree("add(log(y), square(sub(p, y)))"), parse("(y*y - 2*y*p) + p*p")]
    )
    assert len(set(same)) == 1
    others = ("abs(sub(y, p))", "add(y, y)", "mul(sub(add(y, y), add(p, p)), sub(y, p))", "square(add(y, p))")
    assert len({same[0], *regression.keys([evomal.from_tree(t) for t in others])}) == 5
    assert regression.keys([]) == []


def test_parts_are_disjoint_and_standardised_on_the_training_part(table, split):
    test = tabular.held_out(table, 0)
    parts = [split.train_inputs, split.validation_inputs, test.inputs]
    assert [len(part) for part in parts] == [265, 88, 89]
    assert len(np.unique(np.concatenate(parts), axis=0)) == len(np.unique(table.inputs, axis=0)) == 442
    for values in (split.train_inputs, split.train_targets):
        np.testing.assert_allclose(values.mean(0), 0.0, atol=1e-6)
        np.testing.assert_allclose(values.std(0), 1.0, atol=1e-6)
    assert np.abs(split.validation_inputs.mean(0)).max() > 0.01
    targets = np.concatenate([split.train_targets, split.validation_targets, test.targets])
    raw = targets * test.scaler.target_std + test.scaler.target_mean
    np.testing.assert_allclose(np.sort(raw), np.sort(table.targets), rtol=1e-5)
    assert not np.array_equal(tabular.split(table, 1).train_inputs, split.train_inputs)


def test_the_test_part_is_out_of_reach(table, split):
    arrays = {name for name, value in vars(split).items() if isinstance(value, np.ndarray)}
    assert arrays == {"train_inputs", "train_targets", "validation_inputs", "validation_targets"}
    assert {field.name for field in dataclasses.fields(split)} == {"name", *arrays}
    rows = {row.tobytes() for row in tabular.held_out(table, 0).inputs}
    assert not rows & {row.tobytes() for row in np.concatenate([split.train_inputs, split.validation_inputs])}


def test_bad_input(split, student, tmp_path):
    with pytest.raises(UserError, match="lenet5 takes images, and diabetes is a table: choose mlp or mlp_small"):
        students.create("lenet5", split)
    assert students.create("mlp_small", small_split()).task is not REGRESSION
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=rf"california_housing is not in {folder}, .* run python -c"):
            tabular.load("california_housing", folder)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="unknown table 'diabete': did you mean diabetes"):
        tabular.load("diabete")
    with pytest.raises(UserError, match="has log_p, expected y and p alone"):
        regression.encode([parse("-y*ln(p)")])
    with pytest.raises(UserError, match="operator sin is not among those of this search"):
        regression.encode([parse("sin(y - p)")])
    with pytest.raises(ValueError, match="regression has no tables"):
        students.Trainer(student, sgd(0.01))
