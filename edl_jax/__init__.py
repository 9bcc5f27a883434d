"""edl_jax: learn classification losses by evolution on synthetic pairs, and train with them.

`edl_jax.loss` is what other pipelines import; `edl_jax.pretrain.run` and `edl_jax.downstream.run` are
the two stages behind the command line.
"""

__version__ = "0.1.0"
