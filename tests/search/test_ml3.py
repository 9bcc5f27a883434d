"""ML3's learned loss: its network, its table, its artifact."""

import jax
import numpy as np

from edl_jax import loss
from edl_jax.search import ml3
from edl_jax.search.loss_tables import table_of_loss
from edl_jax.search.tables import same

init = jax.jit(ml3.init)


def by_hand(params, p, y):
    x = np.stack([p, y], axis=-1).astype(np.float64)
    for i in range(2):
        x = np.maximum(x @ np.asarray(params[f"Dense_{i}"]["kernel"], np.float64), 0.0)
    return np.logaddexp(0.0, (x @ np.asarray(params["Dense_2"]["kernel"], np.float64))[..., 0])


def test_ml3():
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *(init(jax.random.key(i)) for i in range(3)))
    one = jax.tree.map(lambda leaf: leaf[1], params)
    leaves = jax.tree.leaves(one)
    assert sum(leaf.size for leaf in leaves) == 2650
    np.testing.assert_allclose(np.std(one["Dense_1"]["kernel"]), np.sqrt(2 / 50), rtol=0.05)

    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((7, 5)), np.arange(7) % 5
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = np.eye(5)[labels]
    np.testing.assert_allclose(
        jax.jit(ml3.value)(one, p.astype(np.float32), y.astype(np.float32)), by_hand(one, p, y), rtol=1e-5
    )

    # The artifact leaves out the value of a wrong class without mass, ln 2.
    function = loss.learned_loss(ml3.artifact(one, {"method": "ml3"}))
    expected = by_hand(one, p, y).sum(axis=1) - 4 * np.log(2.0)
    np.testing.assert_allclose(function(logits.astype(np.float32), labels), expected, rtol=1e-5)

    tables = ml3.tables_of_params(params)
    assert tables.shape == (3, 2, 1024)
    assert tables.dtype == np.float32
    assert same(tables[1], table_of_loss(function))
    assert not same(tables[0], tables[1])


def test_the_artifact_is_stored(tmp_path):
    artifact = ml3.artifact(init(jax.random.key(1)), {"method": "ml3"})
    loss.save(artifact, tmp_path / "loss.safetensors")
    assert loss.load(tmp_path / "loss.safetensors") == loss.learned_loss(artifact)
    assert "ml3, 50x50, relu" in repr(loss.load(tmp_path / "loss.safetensors"))
