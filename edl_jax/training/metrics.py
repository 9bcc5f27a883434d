"""Sums that training and evaluation gather on the device, and the metrics made of them.

Expected calibration error: Guo et al. 2017 (1706.04599), equation 3, with equal-width bins (lo, hi] of the
largest probability.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

NUM_BINS = 15


@flax.struct.dataclass
class TrainSums:
    """Sums over the training examples of an epoch.

    Attributes:
      count: [] number of examples.
      loss: [] sum of the training loss.
      correct: [] number of correct predictions, made in training mode on augmented images.
    """

    count: Any
    loss: Any
    correct: Any

    @classmethod
    def zeros(cls) -> "TrainSums":
        """Return empty sums (NumPy arrays: nothing is compiled)."""
        return cls(count=np.zeros((), np.int32), loss=np.zeros((), np.float32), correct=np.zeros((), np.int32))

    def add(self, losses: jax.Array, logits: jax.Array, labels: jax.Array) -> "TrainSums":
        """Return the sums with a batch added: losses [N], logits [N, C], integer labels [N]."""
        correct = jnp.argmax(logits, axis=-1) == labels
        return TrainSums(
            count=self.count + labels.size,
            loss=self.loss + jnp.sum(losses, dtype=jnp.float32),
            correct=self.correct + jnp.sum(correct, dtype=jnp.int32),
        )

    def means(self) -> dict[str, float]:
        """Return `loss` and `accuracy` of fetched sums."""
        count = max(int(self.count), 1)
        return {"loss": float(self.loss) / count, "accuracy": int(self.correct) / count}


@flax.struct.dataclass
class EvalSums:
    """Sums over evaluated examples.

    Attributes:
      nll: [] sum of the negative log-likelihood.
      bin_count: [NUM_BINS] examples in each bin of confidence.
      bin_correct: [NUM_BINS] correct predictions in each bin.
      bin_confidence: [NUM_BINS] sum of confidence in each bin.
    """

    nll: Any
    bin_count: Any
    bin_correct: Any
    bin_confidence: Any

    @classmethod
    def zeros(cls) -> "EvalSums":
        """Return empty sums (NumPy arrays: nothing is compiled)."""
        return cls(
            nll=np.zeros((), np.float32),
            bin_count=np.zeros((NUM_BINS,), np.int32),
            bin_correct=np.zeros((NUM_BINS,), np.int32),
            bin_confidence=np.zeros((NUM_BINS,), np.float32),
        )

    def add(self, logits: jax.Array, labels: jax.Array, mask: jax.Array) -> "EvalSums":
        """Return the sums with a batch added.

        Args:
          logits: [N, C] floating point.
          labels: [N] integers.
          mask: [N] booleans; False marks padding, which adds nothing whatever its logits are.
        """
        log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
        nll = -jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0]
        confidence = jnp.exp(jnp.max(log_probs, axis=-1))
        correct = jnp.argmax(logits, axis=-1) == labels
        bins = jnp.clip(jnp.ceil(confidence * NUM_BINS).astype(jnp.int32) - 1, 0, NUM_BINS - 1)
        member = (bins[:, None] == jnp.arange(NUM_BINS)[None, :]) & mask[:, None]
        return EvalSums(
            nll=self.nll + jnp.sum(jnp.where(mask, nll, 0.0)),
            bin_count=self.bin_count + jnp.sum(member, axis=0, dtype=jnp.int32),
            bin_correct=self.bin_correct + jnp.sum(member & correct[:, None], axis=0, dtype=jnp.int32),
            bin_confidence=self.bin_confidence + jnp.sum(jnp.where(member, confidence[:, None], 0.0), axis=0),
        )

    def means(self) -> dict[str, float]:
        """Return `accuracy`, `nll` and `ece` of fetched sums."""
        count = max(int(np.sum(self.bin_count)), 1)
        gaps = np.abs(np.asarray(self.bin_correct, np.float64) - np.asarray(self.bin_confidence, np.float64))
        return {
            "accuracy": int(np.sum(self.bin_correct)) / count,
            "nll": float(self.nll) / count,
            "ece": float(np.sum(gaps)) / count,
        }
