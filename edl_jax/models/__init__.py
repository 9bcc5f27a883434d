"""Flax models for small images: name -> module."""

from edl_jax.models.registry import create, names

__all__ = ["create", "names"]
