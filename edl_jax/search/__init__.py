"""Search for losses: candidates as tables, students that train many at once, methods that propose them.

`run` is what the command `search` calls, `run_seeds` where several seeds are given.
"""

from edl_jax.search.config import SearchConfig
from edl_jax.search.result import summary_lines
from edl_jax.search.run import run
from edl_jax.search.seeds import run_seeds, seeds_lines

__all__ = ["SearchConfig", "run", "run_seeds", "seeds_lines", "summary_lines"]
