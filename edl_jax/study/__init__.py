"""Studies over finished runs."""

from edl_jax.study import summary

__all__ = ["summary"]
