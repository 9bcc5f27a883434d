"""Tangent kernels beside Jacobians, where they are kept, and what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from student_cases import CLASSES, small_split

from edl_jax.backend import memory
from edl_jax.core.errors import UserError
from edl_jax.search import kernel_store, sequence, students
from edl_jax.search.kernels import linearise


def examples_of(student, split):
    return (
        students.Examples.of(student, split.train_images, split.train_labels),
        students.Examples.of(student, split.validation_images, split.validation_labels),
    )


@pytest.mark.parametrize(
    ("name", "side", "channels"),
    [
        pytest.param("mlp_small", 12, 1, marks=pytest.mark.slow),
        pytest.param("linear", 12, 1, marks=pytest.mark.slow),
        ("lenet5", 28, 1),
        pytest.param("lenet5", 37, 2, marks=pytest.mark.slow),
    ],
)
def test_kernel_is_the_product_of_jacobians(key, name, side, channels):
    split = small_split(side, channels, 40, 40)
    student = students.create(name, split)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(student.init, key)[0]
    params = jax.tree.map(lambda x: jnp.asarray(0.2 * rng.normal(size=x.shape), jnp.float32), shapes)
    train, validation = (
        tuple(x[:n] for x in part) for part, n in zip(examples_of(student, split), (3, 4), strict=True)
    )
    found = linearise(student, params, train, validation, 0.25)

    @jax.jit
    def reference(directions):
        """Return both logits, and J_v J_t^T of each direction `[n, B_t, C]`: by one pass backward and one forward."""
        inputs_t, inputs_v = (student.prepare(inputs, None) for inputs in (train[0], validation[0]))
        logits, pull = jax.vjp(lambda params: student.logits(params, {}, inputs_t), params)
        decayed = student.logits(jax.tree.map(lambda x: 0.75 * x, params), {}, inputs_v)

        def move(direction):
            return jax.jvp(lambda params: student.logits(params, {}, inputs_v), (params,), pull(direction))[1]

        return logits, decayed, jax.lax.map(move, directions)

    # All of them: the kernel's columns.
    logits, decayed, columns = reference(jnp.eye(3 * CLASSES).reshape(-1, 3, CLASSES))
    expected = columns.reshape(3 * CLASSES, -1).T
    np.testing.assert_allclose(found.kernel, expected, atol=3e-6 * np.abs(expected).max())
    np.testing.assert_allclose(found.train_logits, logits, atol=1e-5)
    np.testing.assert_allclose(found.logits, decayed, atol=1e-5)


@pytest.fixture
def run():
    split = small_split()
    student = students.create("mlp_small", split)
    return student, sequence.draw(*examples_of(student, split), 0, steps=3, batch_size=8)


def test_kernels_from_disk_are_those_of_memory(run, tmp_path, monkeypatch):
    in_memory = kernel_store.compute(*run)
    assert not in_memory.on_disk
    needed = kernel_store.kernel_bytes(3, 8, CLASSES)
    assert needed == sum(step.kernel.nbytes for step in in_memory)
    monkeypatch.setattr(memory, "available_bytes", lambda: needed)
    counted = []
    on_disk = kernel_store.compute(*run, directory=tmp_path, on_step=counted.append)
    assert on_disk.on_disk
    assert counted == [1, 2, 3]
    assert np.load(tmp_path / kernel_store.FILE, allow_pickle=False).nbytes == needed
    for _ in range(2):  # as often as asked
        for a, b in zip(in_memory, on_disk, strict=True):
            jax.tree.map(np.testing.assert_array_equal, a, b)


def test_each_step_has_its_own_weights_and_batches(run):
    first, second, _ = kernel_store.compute(*run)
    assert not np.array_equal(first.kernel, second.kernel)
    assert not np.array_equal(first.train_logits, second.train_logits)


def test_kernels_that_fit_nowhere(run, tmp_path, monkeypatch):
    needed = kernel_store.kernel_bytes(3, 8, CLASSES)
    monkeypatch.setattr(memory, "available_bytes", lambda: 3 * needed // 2)
    with pytest.raises(UserError, match=r"no directory is given: 2 steps would fit, or batches of 86 %"):
        kernel_store.compute(*run)
    usage = kernel_store.shutil.disk_usage(tmp_path)._replace(free=needed // 2)
    monkeypatch.setattr(kernel_store.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"0\.0 GiB in .*: 2 steps would fit"):
        kernel_store.compute(*run, directory=tmp_path)
    assert not any(tmp_path.iterdir())


def test_student_without_a_form():
    split = small_split()
    student = students.create("convnet", split)
    drawn = sequence.draw(*examples_of(student, split), 0, steps=1, batch_size=8)
    with pytest.raises(UserError, match=r"convnet has no linearised form .*--local-search exact, or matrix_free"):
        kernel_store.compute(student, drawn)
    student = students.create("mlp_small", split)
    drawn = sequence.draw(*examples_of(student, split), 0, steps=1, inner_steps=2, batch_size=8)
    with pytest.raises(UserError, match="inner_steps is 2, expected 1"):
        kernel_store.compute(student, drawn)
