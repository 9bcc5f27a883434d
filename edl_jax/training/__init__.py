"""Training of Flax models: state, step, loops of an epoch, metrics. Used by downstream and by search."""

from edl_jax.training.evaluation import EvalBatch, Evaluate, compile_evaluate, make_eval_batches
from edl_jax.training.inputs import make_augment, make_prepare, stratified_indices, train_subset
from edl_jax.training.loop import choose_loop, compile_epoch, compile_epochs
from edl_jax.training.metrics import EvalSums, TrainSums
from edl_jax.training.optimizer import make_optimizer, sgd
from edl_jax.training.report import Report, compile_report
from edl_jax.training.schedule import make_schedule, warmup_cosine
from edl_jax.training.state import TrainState, count_params, create_state
from edl_jax.training.step import make_eval_step, make_train_step

__all__ = [
    "EvalBatch",
    "EvalSums",
    "Evaluate",
    "Report",
    "TrainState",
    "TrainSums",
    "choose_loop",
    "compile_epoch",
    "compile_epochs",
    "compile_evaluate",
    "compile_report",
    "count_params",
    "create_state",
    "make_augment",
    "make_eval_batches",
    "make_eval_step",
    "make_optimizer",
    "make_prepare",
    "make_schedule",
    "make_train_step",
    "sgd",
    "stratified_indices",
    "train_subset",
    "warmup_cosine",
]
