"""Noise changes exactly the promised share of each class, to the promised classes, and repeats for a seed."""

import numpy as np
import pytest

from edl_jax import data
from edl_jax.core.errors import UserError

# The table of Krizhevsky (2009), written out by name; a class's number is its place in the alphabet.
CIFAR100 = """
beaver dolphin otter seal whale | aquarium_fish flatfish ray shark trout | orchid poppy rose sunflower tulip
| bottle bowl can cup plate | apple mushroom orange pear sweet_pepper | clock keyboard lamp telephone television
| bed chair couch table wardrobe | bee beetle butterfly caterpillar cockroach | bear leopard lion tiger wolf
| bridge castle house road skyscraper | cloud forest mountain plain sea | camel cattle chimpanzee elephant kangaroo
| fox porcupine possum raccoon skunk | crab lobster snail spider worm | baby boy girl man woman
| crocodile dinosaur lizard snake turtle | hamster mouse rabbit shrew squirrel
| maple_tree oak_tree palm_tree pine_tree willow_tree | bicycle bus motorcycle pickup_truck train
| lawn_mower rocket streetcar tank tractor
"""


def transitions(labels, noisy, num_classes):
    counts = np.zeros((num_classes, num_classes), int)
    np.add.at(counts, (labels, noisy), 1)
    return counts


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4, 0.8])
def test_symmetric_noise_has_its_transition_matrix(rate):
    """Exact diagonal; chi-squared of the 90 other cells, 80 degrees of freedom: 124.8 at 0.1 %."""
    labels = np.repeat(np.arange(10, dtype=np.int32), 1000)
    noisy, changed = data.symmetric_noise(labels, rate, 10, seed=0)
    assert noisy.dtype == np.int32
    np.testing.assert_array_equal(changed, noisy != labels)
    counts = transitions(labels, noisy, 10)
    np.testing.assert_array_equal(np.diag(counts), round(1000 * (1 - rate)))
    if rate:
        expected = 1000 * rate / 9
        others = counts[~np.eye(10, dtype=bool)]
        assert ((others - expected) ** 2 / expected).sum() < 124.8


def test_shares_are_rounded_half_up_in_each_class():
    labels = np.repeat([0, 1, 2, 3], [10, 3, 1, 0])
    _, changed = data.symmetric_noise(labels, 0.35, 4, seed=0)
    np.testing.assert_array_equal(np.bincount(labels[changed], minlength=4), [4, 1, 0, 0])  # 3.5, 1.05, 0.35


def test_asymmetric_noise_on_cifar10():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 100))
    noisy, changed = data.add_label_noise(labels, "asymmetric", 0.4, dataset="cifar10", num_classes=10, seed=1)
    expected = np.diag(np.full(10, 100))
    # truck -> automobile, bird -> airplane, deer -> horse, cat <-> dog
    for source, target in [(9, 1), (2, 0), (4, 7), (3, 5), (5, 3)]:
        expected[source, source], expected[source, target] = 60, 40
    np.testing.assert_array_equal(transitions(labels, noisy, 10), expected)
    np.testing.assert_array_equal(changed, noisy != labels)
    assert changed.mean() == 0.2


def test_cifar100_moves_to_the_next_class_of_the_superclass():
    groups = [group.split() for group in CIFAR100.split("|")]
    names = sorted(name for group in groups for name in group)
    assert len(names) == 100
    expected = {name: group[(place + 1) % 5] for group in groups for place, name in enumerate(group)}
    targets = data.confusions("cifar100", 100)
    assert {names[source]: names[target] for source, target in enumerate(targets)} == expected


def test_fashion_mnist_confuses_named_classes():
    names = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
    moved = {names[s]: names[t] for s, t in enumerate(data.confusions("fashion_mnist", 10)) if s != t}
    assert moved == {"boot": "sneaker", "sneaker": "sandal", "pullover": "shirt", "coat": "dress", "dress": "coat"}


def test_other_sets_move_to_the_next_class():
    np.testing.assert_array_equal(data.confusions("digits", 4), [1, 2, 3, 0])


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
def test_noise_repeats_for_a_seed_and_leaves_its_input_alone(kind):
    labels = np.repeat(np.arange(10, dtype=np.int32), 50)
    before = labels.copy()

    def noisy(seed):
        return data.add_label_noise(labels, kind, 0.3, dataset="mnist", num_classes=10, seed=seed)[0]

    np.testing.assert_array_equal(noisy(1), noisy(1))
    assert (noisy(1) != noisy(2)).any()
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 1.0}, r"label noise is 1.0, expected a share of the labels in \[0, 1\)"),
        ({"rate": -0.1}, "label noise is -0.1"),
        ({"rate": float("nan")}, "label noise is nan"),
        ({"kind": "symetric"}, "unknown label noise 'symetric': did you mean symmetric"),
        ({"labels": np.array([0, 10])}, r"labels hold \[10\], expected classes 0..9"),
        ({"kind": "asymmetric", "dataset": "cifar100"}, "num_classes is 10, expected 100 for the data set cifar100"),
        ({"num_classes": 1, "labels": np.zeros(3, int)}, "expected at least 2"),
    ],
)
def test_bad_input_is_refused_in_one_line(settings, message):
    arguments = {"labels": np.arange(10), "kind": "symmetric", "rate": 0.2, "dataset": "cifar10", "num_classes": 10}
    with pytest.raises(UserError, match=message) as caught:
        data.add_label_noise(**{**arguments, **settings}, seed=0)
    assert "\n" not in str(caught.value)


def test_targets_outside_the_classes_are_refused():
    with pytest.raises(UserError, match=r"targets hold \[2\], expected classes 0..1"):
        data.asymmetric_noise(np.array([0, 1]), 0.2, np.array([1, 2]), seed=0)
