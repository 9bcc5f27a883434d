"""Every kind of loss network with every output transform: the contract, its forward pass, what its kind promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import Family, close, integers, normal, one_hot, soft_labels
from network_cases import NETWORKS, NUM_CLASSES, random_network, reference
from scipy import special

from edl_jax import loss
from edl_jax.core.errors import UserError
from edl_jax.loss.artifacts.spline import splines
from edl_jax.loss.networks import kinds as _network

PRESENT = np.array([list(row) for row in ("11010", "01011", "10101", "11100", "11001", "00111")]) == "1"
ARTIFACTS = {name: random_network(i, name) for i, name in enumerate(NETWORKS)}
# The losses of a family are compiled as one program: see `Family`.
EVERY = Family({name: loss.learned_loss(artifact) for name, artifact in ARTIFACTS.items()})
# The output transform is part of the MLP, so that the contract needs each kind once.
ONE_OF_EACH = [
    "joint square",
    "monotone identity",
    "monotone_true_class identity",
    "pairwise softplus",
    "per_class abs",
    "table identity",
    "true_class square",
]
JOINT, LABEL_FREE = ONE_OF_EACH[:1], ONE_OF_EACH[1:]
KINDS = Family({name: EVERY.losses[name] for name in ONE_OF_EACH})
ANY_C = Family({name: EVERY.losses[name] for name in LABEL_FREE})


@pytest.fixture
def batch():
    """Return logits `[6, 5]` with gaps up to about 15, some of them in the tail, and labels `[6]`."""
    return normal(3, (6, NUM_CLASSES), 5.0), jnp.array([0, 4, 2, 2, 1, 3])


def is_interpolated(artifact):
    """Return whether splines stand in place of a network: those of a table are the table itself."""
    c = artifact.calibration
    table = splines(artifact.network, artifact.params, c.tail_log_p, c.tail_slope)
    return table is not None and artifact.network.kind != "table"


@pytest.mark.parametrize("name", NETWORKS)
def test_values_are_those_of_the_reference(name, batch):
    logits, labels = (np.asarray(x) for x in batch)
    assert np.any(special.log_softmax(logits, axis=-1)[np.arange(6), labels] < -4.0)  # in the tail
    expected = reference(ARTIFACTS[name])(logits.astype(np.float64), one_hot(labels))
    with jax.enable_x64(True):
        values = EVERY.values(jnp.asarray(logits.astype(np.float64)), jnp.asarray(labels))[name]
        assert values.dtype == jnp.float64
        close(values, expected, 1e-7 if is_interpolated(ARTIFACTS[name]) else 2e-12)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_values_in_single_precision(name, batch):
    logits, labels = batch
    y = soft_labels(1, logits.shape)
    expected = reference(ARTIFACTS[name])
    close(KINDS.values(logits, labels)[name], expected(np.float64(logits), one_hot(labels)), 1e-4)
    close(KINDS.values(logits, y)[name], expected(np.float64(logits), np.float64(y)), 1e-4)


@pytest.mark.parametrize("name", LABEL_FREE)
def test_values_for_two_classes(name):
    logits, labels = normal(2, (8, 2), 3.0), integers(1, 8, 2)
    expected = reference(ARTIFACTS[name])(np.asarray(logits, np.float64), one_hot(labels, 2))
    close(ANY_C.values(logits, labels)[name], expected, 1e-4)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_one_hot_is_integer(name, batch):
    """Also below the tail, where a confidently wrong example gets all its gradient."""
    logits, labels = batch
    y = jax.nn.one_hot(labels, NUM_CLASSES)
    close(KINDS.values(logits, y)[name], KINDS.values(logits, labels)[name], 1e-5)
    hard, soft = KINDS.gradients(logits, labels)[name], KINDS.gradients(logits, y)[name]
    close(hard, soft, 1e-4)


@pytest.mark.parametrize("name", LABEL_FREE)
def test_soft_labels_are_the_label_weighted_mean(name, batch):
    logits, _ = batch
    y = soft_labels(1, logits.shape)
    one_class = [KINDS.values(logits, jnp.full(6, c))[name] for c in range(NUM_CLASSES)]
    close(KINDS.values(logits, y)[name], jnp.sum(y * jnp.stack(one_class, axis=-1), axis=-1), 1e-4)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_axis_and_masked_examples(name, batch):
    """`axis` is moveaxis, and `where` over examples is boolean indexing, whatever the others hold."""
    logits, labels = batch
    where = jnp.array([True, False, True, True, False, False])
    expected = KINDS.values(logits, labels)[name]
    moved = jnp.moveaxis(jnp.where(where[:, None], logits, jnp.nan), -1, 0)
    values = KINDS.function(moved, jnp.where(where, labels, -1), where=where, axis=0)[name]
    close(values[where], expected[where], 1e-6)
    assert jnp.all(values[~where] == 0.0)


@pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])
@pytest.mark.parametrize("name", LABEL_FREE)
def test_masked_classes_are_deleted_classes(name, soft, batch):
    logits, labels = (np.asarray(x) for x in batch)
    y = np.asarray(soft_labels(1, logits.shape)) * PRESENT if soft else one_hot(labels).astype(np.float32)
    y /= y.sum(axis=-1, keepdims=True)
    fewer, y_of_fewer = (np.float64(x)[PRESENT].reshape(6, 3) for x in (logits, y))
    deleted = reference(ARTIFACTS[name])(fewer, y_of_fewer)
    target = y if soft else labels
    if not soft:
        close(KINDS.values(logits, target, where=PRESENT)[name], deleted, 1e-4)
    close(KINDS.values(np.where(PRESENT, logits, np.float32(-np.inf)), target)[name], deleted, 1e-4)


@pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])
@pytest.mark.parametrize("name", JOINT)
def test_a_masked_class_of_a_joint_network_has_no_probability(name, soft, batch):
    logits, labels = batch
    y = one_hot(labels)
    if soft:
        y = np.asarray(soft_labels(1, logits.shape), np.float64) * PRESENT
        y /= y.sum(axis=-1, keepdims=True)
    target = jnp.asarray(y, jnp.float32) if soft else labels
    masked = jnp.where(PRESENT, logits, -jnp.inf)
    expected = reference(ARTIFACTS[name])(np.asarray(masked, np.float64), y)
    if not soft:
        close(KINDS.values(jnp.where(PRESENT, logits, jnp.nan), target, where=PRESENT)[name], expected, 1e-4)
    close(KINDS.values(masked, target)[name], expected, 1e-4)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_half_precision_is_kept_and_computed_in_single(name, batch):
    logits, labels = batch
    dtype = jnp.bfloat16
    logits = logits.astype(dtype)
    values, single = KINDS.values(logits, labels)[name], KINDS.values(logits.astype(jnp.float32), labels)[name]
    assert values.dtype == dtype
    rounding = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(values.astype(jnp.float32), single, rtol=rounding, atol=1e-4)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_values_and_gradients_are_finite(name, batch):
    """At any gap between logits, with classes at -inf, and with one class left."""
    _, labels = batch
    alone = jnp.asarray(one_hot(labels), bool)
    soft = soft_labels(1, alone.shape)
    for gap in (20.0, 1e3, 1e4):
        logits = jnp.where(alone, 0.0, gap) * jnp.array([1.0, -1.0, 0.5, -0.5, 1.0, -1.0])[:, None]
        for target in (labels, soft):
            assert jnp.all(jnp.isfinite(KINDS.values(logits, target)[name])), gap
            assert jnp.all(jnp.isfinite(KINDS.gradients(logits, target)[name])), gap
        masked = jnp.where(PRESENT | alone, logits, -jnp.inf)
        gradient = KINDS.gradients(masked, labels)[name]
        assert jnp.all(jnp.isfinite(KINDS.values(masked, labels)[name])), gap
        assert jnp.all(jnp.isfinite(gradient)), gap
        assert jnp.all(gradient[~(PRESENT | alone)] == 0.0)
        target = soft * PRESENT / jnp.sum(soft * PRESENT, axis=-1, keepdims=True)
        masked = jnp.where(PRESENT, logits, -jnp.inf)
        assert jnp.all(jnp.isfinite(KINDS.values(masked, target)[name])), gap
        assert jnp.all(jnp.isfinite(KINDS.gradients(masked, target)[name])), gap
    only_the_true_class = jnp.where(alone, 1.0, -jnp.inf)
    assert jnp.all(jnp.isfinite(KINDS.values(only_the_true_class, labels)[name]))
    assert jnp.all(jnp.isfinite(KINDS.gradients(only_the_true_class, labels)[name]))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_gradients_are_finite_differences(name, batch):
    with jax.enable_x64(True):
        logits, labels = jnp.asarray(np.asarray(batch[0], np.float64)), jnp.asarray(np.asarray(batch[1]))
        v = jnp.asarray(np.random.default_rng(4).standard_normal(logits.shape))
        ahead, behind = (EVERY.values(logits + sign * 1e-5 * v, labels)[name] for sign in (1.0, -1.0))
        slopes = jnp.sum(KINDS.gradients(logits, labels)[name] * v, axis=-1)
        np.testing.assert_allclose(slopes, (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", LABEL_FREE)
def test_permuting_the_classes_permutes_the_gradient(name, batch):
    logits, labels = batch
    order = np.array([3, 1, 4, 0, 2])
    moved = jnp.asarray(np.argsort(order))[labels]
    close(KINDS.values(logits[:, order], moved)[name], KINDS.values(logits, labels)[name], 1e-5)
    close(KINDS.gradients(logits[:, order], moved)[name], KINDS.gradients(logits, labels)[name][:, order], 1e-4)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_tail_is_cross_entropys_times_a_slope(name):
    """Far below the tail's start the loss is a line in ln p_t, whichever form the label has."""
    c = ARTIFACTS[name].calibration
    slope = c.tail_slope * np.exp(np.interp(np.log(NUM_CLASSES), np.log(c.num_classes), np.log(c.scale)))
    log_p_t = -np.array([20.0, 50.0, 200.0, 1e3, 3e3, 1e4])
    wrong = np.tile([1.0, 2.0, -1.0, 0.5], (6, 1))
    logits = jnp.asarray(np.column_stack([log_p_t + special.logsumexp(wrong[0]), wrong]), jnp.float32)
    labels = jnp.zeros(6, jnp.int32)
    for target in (labels, jax.nn.one_hot(labels, NUM_CLASSES)):
        values, gradient = KINDS.values(logits, target)[name], KINDS.gradients(logits, target)[name]
        close(np.diff(values), slope * np.diff(log_p_t), 1e-4)
        close(gradient[:, 0], np.full(6, slope), 1e-4)
        close(gradient[:, 1:].sum(axis=1), np.full(6, -slope), 1e-4)


@pytest.mark.parametrize("kind", _network.KINDS)
def test_a_learned_loss_outside_jit_is_one_program(kind, compilations):
    function = EVERY.losses[f"{kind} identity"]
    batches = [(normal(i, (7, NUM_CLASSES)), integers(i, 7, NUM_CLASSES)) for i in range(3)]
    with compilations() as counts:
        for logits, labels in batches:
            function(logits, labels)
    assert counts.total() == 1, counts


@pytest.mark.parametrize("name", JOINT)
def test_a_joint_network_is_for_one_number_of_classes(name):
    for c in (NUM_CLASSES - 1, NUM_CLASSES + 1):
        with pytest.raises(ValueError, match=f"learned for 5 classes, got logits with {c}"):
            EVERY.losses[name](jnp.zeros((2, c)), jnp.zeros(2, jnp.int32))
    with pytest.raises(UserError, match="a joint network needs num_classes, got none"):
        _network.init(jax.random.key(0), NETWORKS[name])


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_fresh_networks_have_the_documented_size(name):
    network = NETWORKS[name]
    params = jax.eval_shape(lambda: _network.init(jax.random.key(0), network, 7))
    size = sum(leaf.size for leaf in jax.tree.leaves(params))

    def mlp(features):
        return features * 6 + 6 + 6 * 5 + 5 + 5 + 1

    expected = {
        "joint": mlp(14),
        "ml3": 2 * 6 + 6 * 5 + 5,
        "monotone": mlp(2) + mlp(1),
        "monotone_true_class": mlp(2),
        "pairwise": mlp(4),
        "per_class": mlp(3),
        "table": 2 * network.hidden[0] + 1,
        "true_class": mlp(2),
    }
    assert size == expected[network.kind]
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "per_clas"}, "unknown network kind 'per_clas': did you mean per_class"),
        ({"kind": "tables"}, "choose from auto, joint, monotone, monotone_true_class, pairwise"),
        ({"activation": "selu"}, "unknown activation 'selu': did you mean"),
        ({"output": "exp"}, "unknown network output 'exp'"),
        ({"kind": "monotone", "output": "square"}, "network output is square, expected identity"),
        ({"kind": "table", "hidden": (1,)}, "a table has hidden"),
        ({"kind": "table", "hidden": (8, 8)}, "a table has hidden"),
        ({"hidden": ()}, "network hidden widths are"),
        ({"hidden": (16, 0)}, "network hidden widths are"),
    ],
)
def test_settings_that_make_no_network(settings, message):
    with pytest.raises(UserError) as caught:
        loss.NetworkConfig(**settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
