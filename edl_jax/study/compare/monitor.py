"""What a person sees while a grid runs: cells that are done, how long the rest takes, what fails."""

import statistics
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from edl_jax.core.errors import UserError
from edl_jax.study.compare.cells import Cell
from edl_jax.study.compare.directory import read_config
from edl_jax.study.compare.ledger import Ledger
from edl_jax.study.compare.plan import Plan, make_plan
from edl_jax.training.progress import format_duration

_LOOK = 1.0  # seconds between two looks
_BAR = "{desc} |{bar}| {percentage:3.0f} % [{elapsed}{postfix}]"


class Monitor:
    """Watches the directory of a grid, in a thread, as a context manager: a bar on a terminal, else a line a cell.

    Args:
      directory: of the grid.
      workers: of this process, for the estimate.
    """

    def __init__(self, directory: Path, workers: int) -> None:
        self._directory, self._workers = directory, workers
        self._ledger = Ledger(directory)
        self._said: set[str] = set()  # cells whose end was told
        self._begun: set[str] = set()  # ... or that had ended before
        self._estimated = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="monitor", daemon=True)

    def __enter__(self) -> "Monitor":
        """Announce the grid and begin to watch."""
        plan = make_plan(read_config(self._directory), self._ledger)
        self._begun = {cell.name for cell in plan.cells if self._ledger.is_settled(cell)}
        self._said = set(self._begun)
        self._tell(f"compare: {plan.total} cells, {len(self._begun)} of them done before")
        terminal = sys.stderr.isatty()
        self._bar = tqdm(total=plan.total, desc="compare", bar_format=_BAR, disable=not terminal, leave=False)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say what has ended since the last look."""
        self._ended.set()
        self._thread.join()
        self._look()
        self._bar.close()

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK):
            self._look()

    def _look(self) -> None:
        try:
            plan = make_plan(read_config(self._directory), self._ledger)
            ended = [cell for cell in plan.cells if self._ledger.is_settled(cell)]
        except (UserError, OSError):  # the workers say it
            return
        for cell in ended:
            if cell.name not in self._said:
                self._said.add(cell.name)
                self._tell_end(cell, len(self._said), plan)
        left = [cell for cell in plan.cells if cell.name not in self._said]
        seconds = self._estimate(ended, left, plan)
        if not self._estimated and self._said != self._begun and seconds:
            self._estimated = True
            workers = "1 worker" if self._workers == 1 else f"{self._workers} workers"
            count = len(left) + plan.unknown
            self._tell(f"compare: about {format_duration(seconds)} for the {count} cells left, with {workers} here")
        failed = sum(self._ledger.failure(cell) is not None for cell in ended)
        self._bar.total = plan.total
        self._bar.n = min(len(ended) + sum(self._part(cell) for cell in left), plan.total)
        self._bar.set_description_str(
            f"compare: {len(ended)} of {plan.total} cells" + (f", {failed} failed" if failed else ""), refresh=False
        )
        self._bar.set_postfix_str(
            "no cell has ended yet" if seconds is None else f"about {format_duration(seconds)} left", refresh=False
        )
        self._bar.refresh()

    def _part(self, cell: Cell) -> float:
        """Return how much of a cell is done, below 1."""
        if self._bar.disable or not self._ledger.path(cell).is_dir():
            return 0.0
        return 0.95 * self._ledger.epochs(cell) / cell.config.epochs

    def _estimate(self, ended: Sequence[Cell], left: Sequence[Cell], plan: Plan) -> float | None:
        """Return the seconds that are left, from what cells of the same model and data set took."""
        took: dict[tuple[str, str], list[float]] = defaultdict(list)
        for cell in ended:
            result = self._ledger.result(cell)
            if result is not None and isinstance(result.get("wall_seconds"), (int, float)):
                took[cell.setting.arch, cell.setting.dataset].append(result["wall_seconds"])
        if not took:
            return None
        usual = statistics.fmean(statistics.fmean(seconds) for seconds in took.values())
        typical = {kind: statistics.median(seconds) for kind, seconds in took.items()}
        total = sum(
            typical.get((cell.setting.arch, cell.setting.dataset), usual) * (1.0 - self._part(cell)) for cell in left
        )
        return (total + usual * plan.unknown) / self._workers

    def _tell_end(self, cell: Cell, count: int, plan: Plan) -> None:
        failure = self._ledger.failure(cell)
        if failure is not None:
            self._tell(f"{cell.name} has failed: {failure.get('message')}")
        elif not sys.stderr.isatty():
            result = self._ledger.result(cell) or {}
            accuracy, seconds = (result.get(name) or 0.0 for name in ("test_accuracy", "wall_seconds"))
            self._tell(f"{count} of {plan.total}: {cell.name}: accuracy {accuracy:.4f}, {seconds:.1f} s")

    def _tell(self, line: str) -> None:
        tqdm.write(line, file=sys.stderr)
