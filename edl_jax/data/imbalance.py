"""Class imbalance by subsampling a training set: long-tailed and step (Cao et al., 2019, arXiv:1906.07413)."""

import numpy as np

from edl_jax.core.errors import choose, require

IMBALANCE_KINDS = ("long_tailed", "step")


def imbalanced_counts(available: np.ndarray, ratio: float, kind: str = "long_tailed") -> np.ndarray:
    """Return how many examples of each class an imbalanced set keeps.

    Class 0 is the most frequent, the last class the rarest (as in the code of Cao et al., 2019).
    `long_tailed` falls exponentially, `n_c = n_max * ratio ** (-c / (C - 1))`; `step` keeps `n_max` of the first
    half of the classes (the smaller half for odd C) and `n_max / ratio` of the others. Counts are truncated.
    `n_max` is the largest value that every class can serve: the class size in a balanced set.

    Args:
      available: `[C]` examples of each class.
      ratio: `n_max / n_min`, at least 1; 1 makes a balanced set.
      kind: `long_tailed` or `step`.

    Returns:
      `[C]` int64, non-increasing.

    Raises:
      UserError: unknown kind, ratio below 1, fewer than two classes, or a class that would be empty.
    """
    available = np.asarray(available, np.int64)
    num_classes = len(available)
    require(num_classes >= 2, f"the set has {num_classes} class(es), expected at least 2 for class imbalance")
    require(1.0 <= ratio < np.inf, f"imbalance ratio is {ratio}, expected n_max / n_min of at least 1")
    if choose("class imbalance", kind, IMBALANCE_KINDS) == "long_tailed":
        shares = float(ratio) ** -(np.arange(num_classes) / (num_classes - 1))
    else:
        shares = np.where(np.arange(num_classes) < num_classes // 2, 1.0, 1.0 / ratio)
    # The small addend keeps exact quotients, 5000 / 100, from being truncated to one less.
    n_max = np.floor((available / shares).min() + 1e-6)
    counts = np.floor(n_max * shares + 1e-6).astype(np.int64)
    rarest = int(counts.argmin())
    require(
        bool(counts[rarest] >= 1),
        f"imbalance ratio {ratio:g} leaves class {rarest} without examples ({int(n_max)} in the most frequent class); "
        "choose a smaller ratio or a larger training set",
    )
    return counts


def imbalanced_indices(
    labels: np.ndarray, ratio: float, *, num_classes: int, seed: int, kind: str = "long_tailed"
) -> np.ndarray:
    """Return the examples that an imbalanced training set keeps, drawn by `seed` without replacement.

    Args:
      labels: `[N]` integer classes.
      ratio: `n_max / n_min`, at least 1.
      num_classes: number of classes C.
      seed: of the draw.
      kind: `long_tailed` or `step`; see `imbalanced_counts` for the sizes.

    Returns:
      `[M]` int64 indices into the training set, in stored order.

    Raises:
      UserError: as `imbalanced_counts`, or a label outside 0..C-1.
    """
    labels = np.asarray(labels)
    inside = (labels >= 0) & (labels < num_classes)
    require(bool(inside.all()), f"labels hold {labels[~inside][:1]}, expected classes 0..{num_classes - 1}")
    counts = imbalanced_counts(np.bincount(labels, minlength=num_classes), ratio, kind)
    generator = np.random.default_rng(seed)
    kept = [generator.permutation(np.flatnonzero(labels == label))[:count] for label, count in enumerate(counts)]
    return np.sort(np.concatenate(kept))
