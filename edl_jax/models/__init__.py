"""Flax models for small images: name -> module."""

from edl_jax.models.registry import create, inits, names

__all__ = ["create", "inits", "names"]
