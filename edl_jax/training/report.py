"""The full evaluation of a trained network: what is summed on the device, and the report made of it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.backend import compiler
from edl_jax.core.errors import require
from edl_jax.training.calibration import confidences, ece_equal_mass
from edl_jax.training.evaluation import EvalBatch
from edl_jax.training.metrics import EvalSums
from edl_jax.training.step import Prepare

_TOP = 5


@flax.struct.dataclass
class ReportSums:
    """Sums over evaluated examples, more of them than `EvalSums` has.

    Attributes:
      evals: the sums of every epoch's evaluation.
      brier: [] float32 sum of the Brier score.
      top5: [] int32 number of labels among the five largest logits; the smaller class wins a tie, as in argmax.
      confusion: [C, C] int32 examples by label (row) and prediction (column).
    """

    evals: EvalSums
    brier: Any
    top5: Any
    confusion: Any

    @property
    def bins(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return examples, correct predictions and sum of confidence by bin of confidence, [bins] each."""
        evals = self.evals
        return np.asarray(evals.bin_count), np.asarray(evals.bin_correct), np.asarray(evals.bin_confidence)

    @classmethod
    def zeros(cls, num_classes: int) -> "ReportSums":
        """Return empty sums (NumPy arrays: nothing is compiled)."""
        return cls(
            evals=EvalSums.zeros(),
            brier=np.zeros((), np.float32),
            top5=np.zeros((), np.int32),
            confusion=np.zeros((num_classes, num_classes), np.int32),
        )

    def add(self, logits: jax.Array, labels: jax.Array, mask: jax.Array) -> "ReportSums":
        """Return the sums with a batch added.

        Args:
          logits: [N, C] floating point.
          labels: [N] integers.
          mask: [N] booleans; False marks padding, which adds nothing whatever its logits are.
        """
        classes = jnp.arange(logits.shape[-1])[None, :]
        is_label = classes == labels[:, None]
        errors = jax.nn.softmax(logits.astype(jnp.float32), axis=-1) - is_label
        own = jnp.take_along_axis(logits, labels[:, None], axis=-1)
        before = (logits > own) | ((logits == own) & (classes < labels[:, None]))
        among = (jnp.sum(before, axis=-1) < _TOP) & ~jnp.isnan(own[:, 0])
        cells = jnp.asarray(self.confusion).at[labels, jnp.argmax(logits, axis=-1)]
        return ReportSums(
            evals=self.evals.add(logits, labels, mask),
            brier=self.brier + jnp.sum(jnp.where(mask, jnp.sum(errors**2, axis=-1), 0.0)),
            top5=self.top5 + jnp.sum(among & mask, dtype=jnp.int32),
            confusion=cells.add(mask.astype(jnp.int32)),
        )

    def means(self) -> dict[str, Any]:
        """Return the metrics of fetched sums, ready for JSON.

        `accuracy`, `nll` and `ece` as `EvalSums.means`; `brier`, summed over classes, in [0, 2] (Brier 1950);
        `top5_accuracy` where there are more than 5 classes; `per_class_accuracy` [C], None for a class without
        examples; `confusion` [C, C], examples by label (row) and prediction (column).
        """
        confusion = np.asarray(self.confusion, np.int64)
        totals = confusion.sum(axis=1)
        count = max(int(totals.sum()), 1)
        found: dict[str, Any] = {**self.evals.means(), "brier": float(self.brier) / count}
        if len(confusion) > _TOP:
            found["top5_accuracy"] = int(self.top5) / count
        pairs = zip(np.diag(confusion), totals, strict=True)
        found["per_class_accuracy"] = [int(right) / int(total) if total else None for right, total in pairs]
        found["confusion"] = confusion.tolist()
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """A full evaluation.

    Attributes:
      sums: fetched sums.
      logits: [N, C] float32, in the order of the examples, without padding.
      labels: [N] int32.
    """

    sums: ReportSums
    logits: np.ndarray
    labels: np.ndarray

    def metrics(self) -> dict[str, Any]:
        """Return those of `ReportSums.means`, and `ece_equal_mass`."""
        return {**self.sums.means(), "ece_equal_mass": ece_equal_mass(*confidences(self.logits, self.labels))}


def make_report(logits: np.ndarray, labels: np.ndarray) -> Report:
    """Return the report of logits [N, C] that are at hand, for labels [N].

    Raises:
      UserError: there are no examples.
    """
    logits, labels = np.asarray(logits, np.float32), np.asarray(labels, np.int32)
    require(len(labels) > 0, "there are no examples to evaluate")
    add = jax.jit(ReportSums.add)
    sums = add(ReportSums.zeros(logits.shape[1]), logits, labels, np.ones(len(labels), bool))
    return Report(jax.device_get(sums), logits, labels)


def compile_report(
    model: nn.Module, prepare: Prepare, variables: Mapping[str, Any], batch: EvalBatch
) -> Callable[[Mapping[str, Any], Sequence[EvalBatch]], Report]:
    """Compile the full evaluation of the model's variables on batches shaped like `batch` (of `make_eval_batches`).

    The host fetches once a batch, its logits: N * C * 4 bytes in all.
    """

    def logits_of(variables: Mapping[str, Any], images: jax.Array) -> jax.Array:
        logits = model.apply(variables, prepare(images), train=False)
        return jnp.asarray(logits).astype(jnp.float32)

    def step(
        variables: Mapping[str, Any], sums: ReportSums, images: jax.Array, labels: jax.Array, mask: jax.Array
    ) -> tuple[ReportSums, jax.Array]:
        logits = logits_of(variables, images)
        return sums.add(logits, labels, mask), logits

    num_classes = jax.eval_shape(logits_of, variables, batch.images).shape[-1]
    sums_step = jax.jit(step, donate_argnums=1)
    compiled = compiler.compile_lowered(sums_step.lower(variables, ReportSums.zeros(num_classes), *batch))

    def evaluate(variables: Mapping[str, Any], batches: Sequence[EvalBatch]) -> Report:
        require(len(batches) > 0, "there are no examples to evaluate")
        sums: ReportSums = ReportSums.zeros(num_classes)
        logits, labels = [], []
        for batch in batches:
            sums, found = compiled(variables, sums, *batch)
            mask = np.asarray(batch.mask)
            logits.append(np.asarray(found)[mask])
            labels.append(np.asarray(batch.labels)[mask])
        return Report(jax.device_get(sums), np.concatenate(logits), np.concatenate(labels))

    return evaluate
