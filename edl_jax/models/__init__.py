"""Flax models for small images: name -> module."""

from edl_jax.models.registry import SYNONYMS, create, inits, names

__all__ = ["SYNONYMS", "create", "inits", "names"]
