"""Label noise for training sets: seeded, exact shares, on the host before training.

Both kinds are stratified: of the n_c examples of class c, exactly `floor(rate * n_c + 1/2)` change their
label, drawn without replacement. Noise is for training labels; test labels must stay clean.
"""

import numpy as np

from edl_jax.core.errors import choose, require

# Source class -> class it is mistaken for; a class that is not listed keeps its labels.
# Patrini et al. (2017): mnist and cifar10; Zhang & Sabuncu (2018): fashion_mnist.
_CONFUSIONS = {
    # 2 -> 7, 3 -> 8, 5 <-> 6, 7 -> 1
    "mnist": {2: 7, 3: 8, 5: 6, 6: 5, 7: 1},
    # ankle boot -> sneaker -> sandal, pullover -> shirt, coat <-> dress
    "fashion_mnist": {9: 7, 7: 5, 2: 6, 4: 3, 3: 4},
    # truck -> automobile, bird -> airplane, deer -> horse, cat <-> dog
    "cifar10": {9: 1, 2: 0, 4: 7, 3: 5, 5: 3},
}

# Superclass of each of the 100 classes in alphabetical order (Krizhevsky, 2009, table of CIFAR-100).
_CIFAR100_SUPERCLASS = (
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11),
    *(6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5),
    *(5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17),
    *(10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13),
    *(16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
)

NOISE_KINDS = ("asymmetric", "symmetric")


def confusions(dataset: str, num_classes: int) -> np.ndarray:
    """Return the class that each class is mistaken for under asymmetric noise.

    `mnist`, `fashion_mnist` and `cifar10` have the literature's maps between similar classes (Patrini et al.,
    2017, arXiv:1609.03683; Zhang & Sabuncu, 2018, arXiv:1805.07836), which leave about
    half of the classes clean. In `cifar100` each class becomes the next of its superclass, circularly. In any
    other set each class becomes the next class, circularly.

    Args:
      dataset: name of the data set, with or without a version.
      num_classes: number of classes C.

    Returns:
      `[C]` int32; an entry equal to its index is a class without noise.

    Raises:
      UserError: `num_classes` is not that of the named set, or is below 2.
    """
    require(num_classes >= 2, f"num_classes is {num_classes}, expected at least 2 for label noise")
    classes = np.arange(num_classes)
    dataset = dataset.partition(":")[0]  # any version
    known = {**dict.fromkeys(_CONFUSIONS, 10), "cifar100": 100}
    if dataset not in known:
        return ((classes + 1) % num_classes).astype(np.int32)
    expected = known[dataset]
    require(num_classes == expected, f"num_classes is {num_classes}, expected {expected} for the data set {dataset}")
    targets = classes.copy()
    if dataset == "cifar100":
        superclass = np.array(_CIFAR100_SUPERCLASS)
        for index in range(superclass.max() + 1):
            members = np.flatnonzero(superclass == index)
            targets[members] = np.roll(members, -1)
    else:
        for source, target in _CONFUSIONS[dataset].items():
            targets[source] = target
    return targets.astype(np.int32)


def symmetric_noise(labels: np.ndarray, rate: float, num_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Replace a share of each class's labels by one of the C - 1 other classes, drawn uniformly.

    Every chosen label is wrong afterwards, so `rate` is the share of wrong labels. The variant that draws from
    all C classes ("symmetric inclusive") with rate q leaves q / C of the labels right by chance: it is this noise
    with `rate = q * (C - 1) / C`, 0.36 here for its 0.4 with ten classes.

    Args:
      labels: `[N]` integer classes.
      rate: share of labels to change in each class, in [0, 1).
      num_classes: number of classes C.
      seed: of the draw.

    Returns:
      `(noisy, changed)`: `[N]` int32 labels, and `[N]` bool, true where the label was changed.

    Raises:
      UserError: `rate` outside [0, 1), fewer than two classes, or a label outside 0..C-1.
    """
    labels = _checked(labels, rate, num_classes)
    generator = np.random.default_rng(seed)
    changed = _stratified(labels, np.full(num_classes, rate), generator)
    # A shift of 1..C-1 reaches every other class once.
    shifts = generator.integers(1, num_classes, size=len(labels))
    return np.where(changed, (labels + shifts) % num_classes, labels).astype(np.int32), changed


def asymmetric_noise(labels: np.ndarray, rate: float, targets: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Replace a share of each class's labels by the one class it is mistaken for.

    Where `targets` leaves classes clean, the share of wrong labels over the whole set is below `rate`: 0.2 for
    `rate = 0.4` on CIFAR-10, where five of ten classes are confused.

    Args:
      labels: `[N]` integer classes.
      rate: share of labels to change in each class that `targets` moves, in [0, 1).
      targets: `[C]` class that each class becomes, as from `confusions`.
      seed: of the draw.

    Returns:
      `(noisy, changed)`: `[N]` int32 labels, and `[N]` bool, true where the label was changed.

    Raises:
      UserError: `rate` outside [0, 1), fewer than two classes, or a label or target outside 0..C-1.
    """
    targets = np.asarray(targets)
    num_classes = len(targets)
    labels = _checked(labels, rate, num_classes)
    inside = (targets >= 0) & (targets < num_classes)
    require(bool(inside.all()), f"targets hold {targets[~inside][:1]}, expected classes 0..{num_classes - 1}")
    rates = np.where(targets == np.arange(num_classes), 0.0, rate)
    changed = _stratified(labels, rates, np.random.default_rng(seed))
    return np.where(changed, targets[labels], labels).astype(np.int32), changed


def add_label_noise(
    labels: np.ndarray, kind: str, rate: float, *, dataset: str, num_classes: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return training labels with noise of a named kind, and which of them were changed.

    Args:
      labels: `[N]` integer classes.
      kind: `symmetric` (see `symmetric_noise`) or `asymmetric` (see `asymmetric_noise` and `confusions`).
      rate: in [0, 1); 0 changes nothing.
      dataset: name of the data set; picks the map of `asymmetric`.
      num_classes: number of classes C.
      seed: of the draw.

    Returns:
      `(noisy, changed)`: `[N]` int32 labels, and `[N]` bool, true where the label was changed.

    Raises:
      UserError: unknown kind, or as the functions named above.
    """
    if choose("label noise", kind, NOISE_KINDS) == "symmetric":
        return symmetric_noise(labels, rate, num_classes, seed)
    return asymmetric_noise(labels, rate, confusions(dataset, num_classes), seed)


def _checked(labels: np.ndarray, rate: float, num_classes: int) -> np.ndarray:
    """Return the labels as an int64 array after checking every argument."""
    require(0.0 <= rate < 1.0, f"label noise is {rate}, expected a share of the labels in [0, 1)")
    require(num_classes >= 2, f"num_classes is {num_classes}, expected at least 2 for label noise")
    labels = np.asarray(labels).astype(np.int64)
    inside = (labels >= 0) & (labels < num_classes)
    require(bool(inside.all()), f"labels hold {labels[~inside][:1]}, expected classes 0..{num_classes - 1}")
    return labels


def _stratified(labels: np.ndarray, rates: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return `[N]` bool with `floor(rates[c] * n_c + 1/2)` examples of each class c, drawn without replacement."""
    chosen = np.zeros(len(labels), bool)
    for label, rate in enumerate(rates):
        members = np.flatnonzero(labels == label)
        # Rounding guards a product such as 0.35 * 10 = 3.4999... against falling below its half.
        count = int(np.floor(round(rate * len(members), 6) + 0.5))
        chosen[generator.permutation(members)[:count]] = True
    return chosen
