"""Load an exported classifier: with this file beside it, JAX is all that is needed.

from load import load

logits, weights, labels = load()
logits(weights, images)  # images [N, H, W, C] uint8 -> [N, len(labels)] float32
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export


def load(
    folder: str | Path = Path(__file__).parent,
) -> tuple[Callable[[dict[str, jax.Array], jax.Array], jax.Array], dict[str, jax.Array], list[str]]:
    """Return (logits, weights, labels): a function that `jax.jit` takes, its weights, the names of the classes."""
    folder = Path(folder)
    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    weights = read_safetensors(folder / "weights.safetensors")

    def same_types(weights: dict[str, jax.Array], images: jax.Array) -> jax.Array:
        return jnp.zeros((images.shape[0], len(labels)), jnp.float32)

    # A function of the same types is exported, and its program replaced by the stored one.
    shape = export.symbolic_shape(",".join(map(str, [model["batch_size"] or "batch", *model["image_shape"]])))
    template = export.export(jax.jit(same_types, keep_unused=True), platforms=model["platforms"])
    stored = dataclasses.replace(
        template(weights, jax.ShapeDtypeStruct(shape, jnp.uint8)),
        mlir_module_serialized=(folder / "model.stablehlo").read_bytes(),
        calling_convention_version=model["calling_convention_version"],
    )

    @jax.custom_jvp
    def logits(weights: dict[str, jax.Array], images: jax.Array) -> jax.Array:
        return stored.call(weights, images)

    @logits.defjvp
    def no_gradient(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
        raise NotImplementedError("an exported classifier has no gradient: it is there to predict")

    return logits, weights, labels


def read_safetensors(file: Path) -> dict[str, jax.Array]:
    """Return the float32 arrays of a .safetensors file by their names."""
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    arrays = {}
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__":
            begin, end = (start + offset for offset in entry["data_offsets"])
            arrays[name] = jnp.asarray(np.frombuffer(content[begin:end], "<f4").reshape(entry["shape"]))
    return arrays
