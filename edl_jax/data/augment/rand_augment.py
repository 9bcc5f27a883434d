"""RandAugment on batches: a few random operations of one strength for every image.

The 14 operations fall in three families, so that a batch in which every image has its own operation needs
three passes and no branch: *moves* are affine maps of the pixel grid, *tables* replace each of the 256 levels
of a channel by another, *blends* mix the image with a degenerate version of itself. Values are those of
PIL's 8-bit operations.
"""

import functools

import jax
import jax.numpy as jnp

from edl_jax.core.errors import require
from edl_jax.data.augment.erasing import Fill, channel_fill, check_images

MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
TABLES = ("auto_contrast", "equalize", "solarize", "posterize", "contrast", "brightness")
BLENDS = ("color", "sharpness")
OPERATIONS = ("identity", *MOVES, *TABLES, *BLENDS)

_STRONGEST = 10.0  # the paper's scale: AutoAugment's largest strength is 10; larger magnitudes go beyond it
MAX_MAGNITUDE = 30


@functools.partial(jax.jit, static_argnames=("num_ops", "magnitude"))
def rand_augment(
    key: jax.Array,
    images: jax.Array,
    *,
    num_ops: int = 2,
    magnitude: float = 9,
    fill: Fill = 128.0,
) -> jax.Array:
    """Apply `num_ops` operations in sequence to every image (Cubuk et al., 2019, arXiv:1909.13719).

    Each image draws its own operations, uniformly with replacement from the 14 of the paper, and its own sign
    for those that have one. With s = magnitude / 10: rotate by 30 s degrees, shear by 0.3 s, translate by 150/331 s
    of the side (all with nearest neighbours), colour, contrast, brightness and sharpness by a factor 1 +- 0.9 s
    (0.1 at least), posterize to 8 - 4 s bits (rounded, 1 at least), solarize from level 256 (1 - s). Strength
    grows with the magnitude in every one of them, and magnitude 0 leaves the image as it is, except that
    auto-contrast and equalize have no strength.

    Args:
      key: PRNG key.
      images: `[N, H, W, C]` raw pixels in 0..255 with one or three channels, uint8 or floating; floating pixels are
        rounded to integers.
      num_ops: operations for each image, 0 changes nothing. Static.
      magnitude: strength M in 0..30; 10 is AutoAugment's largest. Static.
      fill: raw pixel value that moves uncover, or one for each channel.

    Returns:
      `[N, H, W, C]` of the dtype of `images`.

    Raises:
      UserError: a setting outside its range.
      ValueError: `images` is not of rank 4, or has neither one nor three channels.
    """
    check_images(images)
    require(num_ops >= 0, f"rand_augment has {num_ops} operations, expected at least 0")
    require(0 <= magnitude <= MAX_MAGNITUDE, f"rand_augment has magnitude {magnitude}, expected 0..{MAX_MAGNITUDE}")
    if images.shape[-1] not in (1, 3):
        raise ValueError(f"images must have 1 or 3 channels, got shape {images.shape}")
    if num_ops == 0:
        return images
    batch = images.shape[0]

    def layer(levels: jax.Array, layer_key: jax.Array) -> tuple[jax.Array, None]:
        drawn = jax.random.randint(layer_key, (batch,), 0, 2 * len(OPERATIONS))
        signs = jnp.where(drawn % 2 == 0, 1.0, -1.0)
        return apply_operations(levels, drawn // 2, signs, magnitude, fill), None

    # A scan, so that the layers are compiled once.
    levels, _ = jax.lax.scan(layer, _to_levels(images), jax.random.split(key, num_ops))
    return levels.astype(images.dtype)


def apply_operations(
    levels: jax.Array,
    operations: jax.Array,
    signs: jax.Array,
    magnitude: float,
    fill: Fill,
) -> jax.Array:
    """Apply to each image the operation `OPERATIONS[operations[n]]`.

    Args:
      levels: `[N, H, W, C]` uint8.
      operations: `[N]` int32.
      signs: `[N]` float32, 1 or -1.
      magnitude: strength in 0..30.
      fill: raw pixel value that moves uncover, or one for each channel.

    Returns:
      `[N, H, W, C]` uint8.
    """
    strength = magnitude / _STRONGEST
    factors = jnp.maximum(1.0 + 0.9 * strength * signs, 0.1)
    is_kind = {name: operations == index for index, name in enumerate(OPERATIONS)}
    # All three read the input, not one another's results: XLA would fuse a chain and recompute it for each read.
    moved = _move(levels, is_kind, strength * signs, fill)
    replaced = _replace_levels(levels, is_kind, strength, factors)
    blended = _blend(levels, is_kind, factors)
    table, blend = (
        functools.reduce(jnp.logical_or, [is_kind[name] for name in names])[:, None, None, None]
        for names in (TABLES, BLENDS)
    )
    return jnp.where(table, replaced, jnp.where(blend, blended, moved))


def _move(levels: jax.Array, is_kind: dict[str, jax.Array], amount: jax.Array, fill: Fill) -> jax.Array:
    """Read every output pixel at an affine map of its place, nearest neighbour; other images stay in place."""
    batch, height, width, channels = levels.shape

    def only(name: str, values: jax.Array) -> jax.Array:
        return jnp.where(is_kind[name], values, 0.0)

    angle = only("rotate", amount * jnp.deg2rad(30.0))
    cos, sin = (part[:, None, None] for part in (jnp.cos(angle), jnp.sin(angle)))
    shear_x, shear_y = (only(name, 0.3 * amount)[:, None, None] for name in ("shear_x", "shear_y"))
    shift_x = only("translate_x", 150.0 / 331.0 * width * amount)[:, None, None]
    shift_y = only("translate_y", 150.0 / 331.0 * height * amount)[:, None, None]
    # Places of pixel centres. Rotation is about the centre of the image, shear about its top left corner.
    x = (jnp.arange(width, dtype=jnp.float32) + 0.5)[None, None, :]
    y = (jnp.arange(height, dtype=jnp.float32) + 0.5)[None, :, None]
    from_x, from_y = x - width / 2.0, y - height / 2.0
    source_x = cos * from_x - sin * from_y + width / 2.0 + shear_x * y + shift_x
    source_y = sin * from_x + cos * from_y + height / 2.0 + shear_y * x + shift_y
    column, row = jnp.floor(source_x).astype(jnp.int32), jnp.floor(source_y).astype(jnp.int32)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    place = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
    flat = levels.reshape(batch, height * width, channels)
    moved = jnp.take_along_axis(flat, place.reshape(batch, -1, 1), axis=1).reshape(levels.shape)
    return jnp.where(inside[..., None], moved, channel_fill(fill, levels))


def _replace_levels(levels: jax.Array, is_kind: dict[str, jax.Array], strength: float, factors: jax.Array) -> jax.Array:
    """Look every pixel up in a table of 256 levels for its image and channel; other images keep theirs."""
    batch, _, _, channels = levels.shape
    # The entry of every pixel in the tables of all images and channels laid end to end.
    table = jnp.arange(batch * channels, dtype=jnp.int32).reshape(batch, 1, 1, channels)
    entries = table * 256 + levels.astype(jnp.int32)
    low, high = (jnp.expand_dims(edge(levels, (1, 2)).astype(jnp.int32), -1) for edge in (jnp.min, jnp.max))
    same = jnp.arange(256, dtype=jnp.int32)[None, None, :]
    bits = max(8 - round(4 * strength), 1)
    threshold = 256 - round(256 * strength)
    grey_mean = jnp.floor(_luma(levels).astype(jnp.float32).mean((1, 2)) + 0.5)[:, None, None]
    grey_mean = jnp.broadcast_to(grey_mean, (batch, 1, 1))
    blend = factors[:, None, None]
    tables = {
        "auto_contrast": _auto_contrast_table(low, high, same),
        "equalize": _equalize_table(entries, high, same),
        "solarize": jnp.where(same < threshold, same, 255 - same),
        "posterize": same & (256 - (1 << (8 - bits))),
        "contrast": _mix(grey_mean, same.astype(jnp.float32), blend),
        "brightness": _mix(jnp.zeros_like(grey_mean), same.astype(jnp.float32), blend),
    }
    shape = (batch, channels, 256)
    chosen = jnp.broadcast_to(same, shape)
    for name in TABLES:
        chosen = jnp.where(is_kind[name][:, None, None], jnp.broadcast_to(tables[name], shape), chosen)
    return chosen.astype(jnp.uint8).reshape(-1)[entries]


def _auto_contrast_table(low: jax.Array, high: jax.Array, same: jax.Array) -> jax.Array:
    """Stretch the levels low..high `[N, C, 1]` of each channel to 0..255; a channel of one level stays."""
    stretched = jnp.clip((same - low) * 255 // jnp.maximum(high - low, 1), 0, 255)
    return jnp.where(high > low, stretched, same)


def _equalize_table(entries: jax.Array, high: jax.Array, same: jax.Array) -> jax.Array:
    """Make the levels of each channel equally frequent, as PIL does; `high` `[N, C, 1]` is the highest of each."""
    batch, height, width, channels = entries.shape
    counts = jnp.zeros(batch * channels * 256, jnp.int32).at[entries.reshape(-1)].add(1)
    counts = counts.reshape(batch, channels, 256)
    step = (height * width - jnp.take_along_axis(counts, high, axis=2)) // 255
    below = jnp.cumsum(counts, axis=2) - counts
    equalized = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
    return jnp.where(step > 0, equalized, same)


def _blend(levels: jax.Array, is_kind: dict[str, jax.Array], factors: jax.Array) -> jax.Array:
    """Mix each image with its grey version (colour) or its smooth version (all others)."""
    color = is_kind["color"][:, None, None, None]
    grey = jnp.broadcast_to(_luma(levels)[..., None], levels.shape)
    degenerate = jnp.where(color, grey, _smooth(levels)).astype(jnp.float32)
    return _mix(degenerate, levels.astype(jnp.float32), factors[:, None, None, None]).astype(jnp.uint8)


def _mix(degenerate: jax.Array, image: jax.Array, factor: jax.Array) -> jax.Array:
    """Return `degenerate + factor * (image - degenerate)`, truncated and clipped to levels, int32."""
    return jnp.clip(degenerate + factor * (image - degenerate), 0.0, 255.0).astype(jnp.int32)


def _luma(levels: jax.Array) -> jax.Array:
    """Return `[N, H, W]` int32 grey levels (ITU-R 601, PIL's integer weights)."""
    wide = levels.astype(jnp.int32)
    if levels.shape[-1] == 1:
        return wide[..., 0]
    return (wide[..., 0] * 19595 + wide[..., 1] * 38470 + wide[..., 2] * 7471 + 0x8000) >> 16


def _smooth(levels: jax.Array) -> jax.Array:
    """Return PIL's SMOOTH filter, a 3 x 3 mean with weight 5 in the middle; the border stays. `[N, H, W, C]` int32."""
    wide = levels.astype(jnp.int32)
    height, width = levels.shape[1:3]
    if height < 3 or width < 3:
        return wide
    total = 4 * wide[:, 1:-1, 1:-1]
    for row in range(3):
        for column in range(3):
            total = total + wide[:, row : height - 2 + row, column : width - 2 + column]
    return wide.at[:, 1:-1, 1:-1].set((2 * total + 13) // 26)


def _to_levels(images: jax.Array) -> jax.Array:
    if jnp.issubdtype(images.dtype, jnp.floating):
        images = jnp.clip(jnp.round(images), 0.0, 255.0)
    return images.astype(jnp.uint8)
