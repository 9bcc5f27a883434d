"""Every loss on two devices, as a program of its own: prints what went wrong, a line each, then `done`.

Its arguments are the names of the cases to try, see `CASES`.

The batch is sharded over a mesh with Explicit axis types, or the classes over one in `shard_map`. What a mesh of
Explicit types refuses is refused while tracing, so that most of it compiles nothing.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from loss_cases import TWO_CLASSES, normal, soft_labels
from network_cases import random_network

from edl_jax import loss

NETWORKS = ("monotone identity", "pairwise abs")  # of the kinds that no shipped prior has and that take any C
LOSSES = {name: loss.get(name) for name in loss.names()} | {
    "formula": loss.expression_loss("-y * (1 - p)^2 * ln(p) + 0.25 * (p - y)^2"),
    **{name: loss.learned_loss(random_network(0, name)) for name in NETWORKS},
}
COMPARED = ("bi_tempered", "edl_optimum", "formula")  # one that iterates, looks up a table, is one program
OF_P_T = {name: function for name, function in LOSSES.items() if loss.is_function_of_p_t(function)}

LOGITS, LABELS = np.asarray(normal(3, (8, 6), 3.0)), np.arange(8) % 6
PRESENT = np.arange(6) != np.where(LABELS == 1, 0, 1)[:, None]
WEIGHTS = np.array([1.0, 0.5, 2.0, 1.0, 0.0, 3.0], np.float32)
# Labels, arrays, other arguments.
CASES = {
    "mask of classes": (LABELS, {"where": PRESENT, "class_weights": WEIGHTS}, {"ignore_label": 2}),
    "smoothed": (LABELS, {"where": LABELS != 3, "class_weights": WEIGHTS}, {"smoothing": 0.1}),
    "probabilities": (np.asarray(soft_labels(1, (8, 6))), {}, {}),
}


def explicit(mesh, cases):
    """Trace each loss with a sharded batch, in each case of integer labels; run some of them and compare."""
    split = functools.partial(jax.device_put, device=jax.NamedSharding(mesh, P("batch")))
    for case in cases & {"mask of classes", "smoothed"}:  # probabilities take the way of smoothed labels
        labels, arrays, others = CASES[case]

        def both(functions, logits, labels, arrays, others=others):
            def values(logits):
                return {name: f(logits, labels, **arrays, **others) for name, f in functions.items()}

            out, pullback = jax.vjp(values, logits)
            return out, pullback(jax.tree.map(jnp.ones_like, out))[0]

        def placed(arrays):
            return {key: x if key == "class_weights" else split(x) for key, x in arrays.items()}

        two = LOGITS[:, :2], labels % 2, {key: x[..., :2] if x.shape[-1] == 6 else x for key, x in arrays.items()}
        sharded = placed(arrays)
        for name, function in LOSSES.items():
            one = functools.partial(both, {name: function})
            z, y, more = two if name in TWO_CLASSES else (LOGITS, labels, arrays)
            try:
                with jax.set_mesh(mesh):
                    shapes = jax.eval_shape(one, split(z), split(y), placed(more))
                for x in jax.tree.leaves(shapes):
                    if x.sharding.spec[0] != "batch":
                        print(f"{name}, {case}: sharded as {x.sharding.spec}")
            except (TypeError, ValueError) as error:
                print(f"{name}, {case}: {error}")
    some = jax.jit(functools.partial(both, {name: LOSSES[name] for name in COMPARED}))
    with jax.set_mesh(mesh):
        found = some(split(LOGITS), split(labels), sharded)
    compare(case, found, some(LOGITS, labels, arrays))


def class_parallel(mesh, cases):
    """Compare the losses of p_t alone, three classes on each device, with the plain form; the others refuse."""
    for case in cases:
        labels, arrays, others = CASES[case]
        factors = np.linspace(1.0, 2.0, len(OF_P_T) * 8, dtype=np.float32).reshape(-1, 8)

        def values(logits, labels, arrays, axis_name=None, others=others):
            more = {**arrays, **others, "axis_name": axis_name}
            return jnp.stack([f(logits, labels, **more) for f in OF_P_T.values()])

        def both(function, logits, labels, arrays, factors=factors):
            out, pullback = jax.vjp(lambda z: function(z, labels, arrays), logits)
            return dict(zip(OF_P_T, out, strict=True)), pullback(jnp.asarray(factors))[0]

        def spec(x, name=""):
            return P("classes") if name == "class_weights" else P(None, "classes") if x.ndim == 2 else P()

        specs = spec(LOGITS), spec(labels), {name: spec(x, name) for name, x in arrays.items()}
        local = functools.partial(values, axis_name="classes")
        sharded = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P())
        batch = LOGITS, labels, arrays
        shardings = jax.tree.map(lambda spec: jax.NamedSharding(mesh, spec), specs)
        found = jax.jit(functools.partial(both, sharded))(*jax.device_put(batch, shardings))
        compare(f"class-parallel, {case}", found, jax.jit(functools.partial(both, values))(*batch))
    for name in LOSSES.keys() - OF_P_T.keys():
        try:
            LOSSES[name](LOGITS, LABELS, axis_name="classes")
            print(f"{name}: takes class-parallel logits")
        except ValueError as error:
            if f"expected None: {LOSSES[name].name} sees more than p_t" not in str(error):
                print(f"{name}: {error}")


def compare(case, found, expected):
    """Print the values `[N]` that differ, by the name of the loss, and whether the gradient of all of them does."""
    (values, gradient), (expected_values, expected_gradient) = found, expected
    for name, x in (values | {"gradient": gradient}).items():
        y = (expected_values | {"gradient": expected_gradient})[name]
        if not np.allclose(x, y, rtol=2e-5, atol=2e-5):
            print(f"{name}, {case}: {np.asarray(x)}, expected {np.asarray(y)}")


if __name__ == "__main__":
    jax.config.update("jax_numpy_rank_promotion", "raise")
    assert len(jax.devices()) == 2
    chosen = set(sys.argv[1:])
    explicit(jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Explicit,)), chosen)
    class_parallel(jax.make_mesh((2,), ("classes",), axis_types=(jax.sharding.AxisType.Explicit,)), chosen)
    print("done")
