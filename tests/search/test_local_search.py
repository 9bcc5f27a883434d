"""Local search: linearised beside exact, exact beside plain steps, and candidates that are not finite."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from student_cases import small_split

from edl_jax.core.errors import UserError
from edl_jax.loss.expression import compile_program, evomal, operators_of
from edl_jax.search import kernel_store, local_search, sequence, students
from edl_jax.search.local_search import Exact, Linearised, LocalSearchConfig
from edl_jax.search.slopes import program_slopes, tape_of_programs
from edl_jax.training.optimizer import sgd

TREES = [
    evomal.from_tree(text)
    for text in ("mul(-1, mul(y, log(p)))", "square(sub(y, p))", "abs(log(mul(y, p)))", "sqrt(abs(sub(p, y)))")
]
OPERATORS = operators_of(TREES)
SLOPES = functools.partial(program_slopes, OPERATORS)
# A short step, so that what is left of the second order is a fraction of a per cent.
CONFIG = LocalSearchConfig(steps=4, batch_size=32, inner_lr=1e-3)


@pytest.fixture(scope="module")
def tape():
    programs = jax.tree.map(lambda *x: np.stack(x), *[compile_program(tree, 8) for tree in TREES])
    return tape_of_programs(programs, OPERATORS)


@pytest.fixture(scope="module")
def task():
    split = small_split()
    student = students.create("mlp_small", split)
    examples = (
        students.Examples.of(student, split.train_images, split.train_labels),
        students.Examples.of(student, split.validation_images, split.validation_labels),
    )
    return student, examples


@pytest.fixture(scope="module")
def drawn(task):
    return sequence.draw(*task[1], 0, steps=CONFIG.steps, batch_size=CONFIG.batch_size)


@pytest.fixture(scope="module")
def linearised(task, drawn):
    return Linearised(SLOPES, CONFIG, kernel_store.compute(task[0], drawn, decay=CONFIG.decay))


def test_meta_gradients_are_the_exact_ones(task, drawn, linearised, tape, key):
    exact = Exact(SLOPES, CONFIG, task[0], drawn)
    weights = 1.0 + 0.2 * jax.random.normal(key, tape.weights.shape)

    @jax.jit
    def by_kernel(weights, at):
        def total(weights):
            losses, _ = linearised.task_losses(weights, tape, at)
            return losses.sum(), losses

        return jax.grad(total, has_aux=True)(weights)

    @jax.jit
    def by_training(weights, at):
        return jax.lax.map(lambda x: jax.value_and_grad(exact.task_loss)(*x, at), (weights, tape))

    for i, at in enumerate(linearised._linearisations):
        found, losses = by_kernel(weights, at)
        expected_losses, expected = by_training(weights, drawn.at(i))
        np.testing.assert_allclose(losses, expected_losses, rtol=2e-4)
        norms, expected_norms = (np.linalg.norm(x, axis=1) for x in (found, expected))
        cosine = np.sum(np.asarray(found) * np.asarray(expected), 1) / (norms * expected_norms)
        assert np.all(cosine > 0.9999)
        np.testing.assert_allclose(norms, expected_norms, rtol=0.01, atol=1e-4)


def test_without_kernels_the_search_is_the_same(task, drawn, linearised, tape):
    found = local_search.MatrixFree(SLOPES, CONFIG, task[0], drawn)(tape.weights, tape)
    expected = linearised(tape.weights, tape)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-5)
    np.testing.assert_allclose(found.moves, expected.moves, rtol=1e-3)
    np.testing.assert_allclose(found.params, expected.params, atol=2e-4)


@pytest.mark.slow
def test_exact_is_what_training_says(task, tape):
    """A difference quotient of plain training steps, Nesterov, decay and all, in a weight that changes them."""
    student, examples = task
    config = dataclasses.replace(CONFIG, inner_steps=2, steps=1, inner_lr=0.5)
    drawn = sequence.draw(*examples, 1, steps=1, inner_steps=2, batch_size=32)
    exact = Exact(SLOPES, config, student, drawn)
    at = drawn.at(0)
    squared = jax.tree.map(lambda x: jnp.asarray(x[1]), tape)
    optimizer = sgd(0.5)

    def trained(weights):
        """Return the validation loss after two steps with (w1 y - w3 p)^2, differentiated by hand of nobody but JAX."""
        key, (images, labels), (validation, targets) = at
        params = student.init(key)[0]
        state = optimizer.init(params)
        for batch, classes in zip(images, labels, strict=True):

            def objective(params, batch=batch, classes=classes):
                p = jax.nn.softmax(student.logits(params, {}, student.prepare(batch, None)))
                y = jax.nn.one_hot(classes, p.shape[1])
                return jnp.mean(jnp.sum((weights[1] * (weights[2] * y - weights[3] * p)) ** 2, 1))

            updates, state = optimizer.update(jax.grad(objective)(params), state, params)
            params = optax.apply_updates(params, updates)
        logits = student.logits(params, {}, student.prepare(validation, None))
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, targets))

    weights = jnp.asarray(tape.weights[1]).at[1:4].set(jnp.array([1.1, 0.9, 1.2]))
    found, gradient = jax.jit(jax.value_and_grad(exact.task_loss))(weights, squared, at)
    expected, expected_gradient = jax.jit(jax.value_and_grad(trained))(weights)
    assert found == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-3, atol=1e-7)


def test_search_lowers_the_task_loss_of_each_candidate(linearised, tape):
    weights = np.array(tape.weights)
    weights[1, 1] = np.nan
    outcome = linearised(weights, tape)
    assert outcome.params.shape == weights.shape
    assert outcome.losses.shape == (CONFIG.steps, len(TREES))
    assert outcome.finite.tolist() == [True, False, True, True]
    np.testing.assert_array_equal(outcome.params[1], weights[1])
    # Adam's first steps are of lr each, where there is a gradient; root's weight has none.
    moved = np.abs(outcome.params - tape.weights).max(1)
    assert np.all(moved[[0, 2, 3]] > 2 * CONFIG.lr)
    assert np.all(moved[[0, 2, 3]] < 1.01 * CONFIG.steps * CONFIG.lr)
    assert not np.any(outcome.params[:, 0] - tape.weights[:, 0])
    at = next(iter(linearised._linearisations))
    start, moves = linearised.task_losses(jnp.asarray(tape.weights), tape, at)
    end, _ = linearised.task_losses(jnp.asarray(outcome.params), tape, at)
    assert np.all(np.asarray(end < start)[[0, 2, 3]])
    np.testing.assert_allclose(outcome.moves[[0, 2, 3]], moves[np.array([0, 2, 3])], rtol=0.5)


def test_candidates_do_not_meet(linearised, tape):
    every = linearised(tape.weights, tape)
    alone = linearised(*jax.tree.map(lambda x: x[2:3], (tape.weights, tape)))
    np.testing.assert_allclose(alone.params[0], every.params[2], rtol=1e-6)


def test_strong_candidates_are_searched_exactly(linearised, tape):
    """Those whose steps are beyond the limit, and no other."""
    weights = np.array(tape.weights)
    weights[1, 1] = np.nan
    found = linearised(weights, tape)
    limit = np.sort(found.moves)[1]  # of three that are not NaN

    def exact(params, candidates, on_step):
        seen.append(np.asarray(candidates.length).tolist())
        return local_search.Found(
            params + 1, np.full((CONFIG.steps, len(params)), 7.0), np.ones(len(params), bool), None
        )

    seen = []
    guarded = local_search.Guarded(linearised, exact, limit)(weights, tape)
    strong = found.moves > limit
    assert strong.sum() == 1
    assert np.isnan(found.moves).tolist() == [False, True, False, False]
    assert seen == [tape.length[strong].tolist()]
    np.testing.assert_array_equal(guarded.params[strong], weights[strong] + 1)
    np.testing.assert_array_equal(guarded.params[~strong], found.params[~strong])
    assert (guarded.losses[:, strong] == 7.0).all()
    np.testing.assert_array_equal(guarded.losses[:, ~strong], found.losses[:, ~strong])
    np.testing.assert_array_equal(guarded.moves, found.moves)
    assert guarded.finite.tolist() == [True, False, True, True]


def test_networks_are_searched_by_the_same_code(task, linearised):
    """ML3's: slopes of any function of (y, p) with parameters of any structure."""

    def slopes(params, nothing, y, u):
        def value(u, y):
            hidden = jax.nn.relu(jnp.stack([jnp.exp(u), y]) @ params["first"])
            return jax.nn.softplus(hidden @ params["last"])

        return jax.vmap(jax.grad(value))(u, y)

    keys = jax.random.split(jax.random.key(1))
    params = {"first": jax.random.normal(keys[0], (1, 2, 8)), "last": jax.random.normal(keys[1], (1, 8))}
    search = Linearised(slopes, CONFIG, linearised._linearisations)
    outcome = search(params, None)
    assert outcome.finite.all()
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), outcome.params, params)
    assert min(jax.tree.leaves(moved)) > CONFIG.lr


def test_none_changes_nothing(tape):
    outcome = local_search.no_search(tape.weights, tape)
    np.testing.assert_array_equal(outcome.params, tape.weights)
    assert outcome.finite.all()


def test_bad_input(task):
    with pytest.raises(UserError, match="unknown local search 'linear': did you mean linearised"):
        local_search.check_method("linear", task[0], CONFIG)
    with pytest.raises(UserError, match=r"resnet9v2 has no linearised form .*exact"):
        local_search.check_method("linearised", students.create("resnet9v2", small_split()), CONFIG)
    with pytest.raises(UserError, match="inner_steps is 3, expected 1"):
        local_search.check_method("linearised", task[0], LocalSearchConfig(inner_steps=3))
    local_search.check_method("exact", task[0], LocalSearchConfig(inner_steps=3))
    with pytest.raises(UserError, match="local search lr is 0, expected a positive number"):
        LocalSearchConfig(lr=0)
