"""Work done ahead by threads, in order."""

import os
from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")

_THREADS = max(1, min(8, os.cpu_count() or 1))


def prefetch(function: Callable[[int], T], count: int, *, ahead: int) -> Generator[T]:
    """Yield `function(0)`, `function(1)` ... `function(count - 1)`, computed by threads before they are asked for.

    Close the iterator when it is left early: threads end with it.

    Args:
      function: called by several threads at once; what it raises is raised here, in its turn.
      count: calls.
      ahead: results that may wait, at least 1.
    """
    import grain  # a second and a half to import, for those who use it

    options = grain.ReadOptions(num_threads=min(_THREADS, ahead), prefetch_buffer_size=ahead)
    results = iter(grain.MapDataset.range(count).map(function).to_iter_dataset(options))
    try:
        yield from results
    finally:
        results.close()
