"""Stochastic gradient descent as the CIFAR literature uses it, and its learning rate."""

import optax


def warmup_cosine(lr: float, total_steps: int, warmup_steps: int = 0) -> optax.Schedule:
    """Return step -> learning rate: linear from 0 to `lr`, then half a cosine to 0 at `total_steps`.

    Args:
      lr: the largest learning rate, reached at step `warmup_steps`.
      total_steps: number of steps of the whole training.
      warmup_steps: number of steps of the linear part; 0 starts at `lr`.
    """
    decay = optax.cosine_decay_schedule(lr, max(total_steps - warmup_steps, 1))
    if warmup_steps == 0:
        return decay
    return optax.join_schedules([optax.linear_schedule(0.0, lr, warmup_steps), decay], [warmup_steps])


def sgd(
    lr: optax.ScalarOrSchedule, *, momentum: float = 0.9, weight_decay: float = 5e-4
) -> optax.GradientTransformation:
    """Return SGD with Nesterov momentum and coupled weight decay.

    As `torch.optim.SGD(nesterov=True)`: `weight_decay * params` is added to the gradient before momentum,
    for all parameters, biases and the scales of batch normalisation included.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.sgd(lr, momentum=momentum or None, nesterov=momentum > 0),
    )
