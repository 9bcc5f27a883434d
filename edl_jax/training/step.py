"""Pure training and evaluation steps, built from a model, a loss and an optimizer."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from edl_jax.training.averaging import ema_update
from edl_jax.training.metrics import EvalSums, TrainSums
from edl_jax.training.state import AveragedState, TrainState

# (logits [N, C], labels [N]) -> loss of each example [N]
LossFn = Callable[..., jax.Array]
# Raw images [N, H, W, C] -> normalised images
Prepare = Callable[[jax.Array], jax.Array]
# (key, raw images, labels [N]) -> raw images, and labels [N] or label probabilities [N, C]
AugmentFn = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
TrainStep = Callable[[TrainState, TrainSums, jax.Array, jax.Array, jax.Array], tuple[TrainState, TrainSums]]
EvalStep = Callable[[TrainState, EvalSums, jax.Array, jax.Array, jax.Array], EvalSums]


def make_train_step(
    model: nn.Module,
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    prepare: Prepare,
    augment: AugmentFn | None = None,
    *,
    ema: float = 0.0,
) -> TrainStep:
    """Return `train_step(state, sums, key, images, labels) -> (state, sums)`.

    `images` is uint8 [N, H, W, C], `labels` int32 [N]. The randomness of a step depends on `key` and
    `state.step` alone, so that a resumed run repeats it exactly. `ema` is the decay of an
    `AveragedState`'s average.
    """

    def train_step(
        state: TrainState, sums: TrainSums, key: jax.Array, images: jax.Array, labels: jax.Array
    ) -> tuple[TrainState, TrainSums]:
        targets = labels
        if augment is not None:
            images, targets = augment(jax.random.fold_in(key, state.step), images, labels)
        inputs = prepare(images)

        def objective(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Any]]:
            variables = {"params": params, "batch_stats": state.batch_stats}
            logits, updated = model.apply(variables, inputs, train=True, mutable=["batch_stats"])
            losses = loss_fn(logits, targets)
            return jnp.mean(losses), (losses, logits, updated.get("batch_stats", {}))

        gradient = jax.value_and_grad(objective, has_aux=True)
        (loss, (losses, logits, batch_stats)), grads = gradient(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)

        # Decided on the device: the host learns of it when it next fetches bad_step.
        good = jnp.isfinite(loss) & _all_finite(params)
        bad_step = jnp.where((state.bad_step < 0) & ~good, state.step, state.bad_step)
        kept_state = dataclasses.replace(state, step=state.step + 1, bad_step=bad_step)
        updated_state = dataclasses.replace(kept_state, params=params, batch_stats=batch_stats, opt_state=opt_state)
        if isinstance(updated_state, AveragedState):
            average = ema_update(updated_state.average, updated_state.variables, ema, state.step)
            updated_state = dataclasses.replace(updated_state, average=average)
        return _select(bad_step < 0, updated_state, kept_state), sums.add(losses, logits, labels)

    return train_step


def make_eval_step(model: nn.Module, prepare: Prepare) -> EvalStep:
    """Return `eval_step(state, sums, images, labels, mask) -> sums`.

    `images` is uint8 [N, H, W, C], `labels` int32 [N], `mask` bool [N], False for padding.
    """

    def eval_step(state: TrainState, sums: EvalSums, images: jax.Array, labels: jax.Array, mask: jax.Array) -> EvalSums:
        logits = model.apply(state.variables, prepare(images), train=False)
        return sums.add(jnp.asarray(logits), labels, mask)

    return eval_step


def _all_finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]).all()


def _select(condition: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
