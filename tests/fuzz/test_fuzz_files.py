"""Damaged files: whatever a command reads, it works or says one line, and what was whole stays so."""

import io
import os
import re

import numpy as np
import pytest
from fuzz_damage import apply, damaged
from fuzz_harness import FaultError, Outcome, changes, fuzz, restore, tree
from fuzz_scenarios import SHARES, Scenario, numbers_of, prepared, quick_programs
from hypothesis import strategies as st

KINDS = ("content",) * 20 + ("folder", "loop", "dangling")  # what stands in place of a file
NOTED = r"(.*/)?environment\.json"  # a command that ends in an error may have noted how long it took


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory):
    with quick_programs():
        yield prepared(tmp_path_factory.mktemp("fuzz"))


def faults(scenario: Scenario, name: str, before: dict, outcome: Outcome) -> list[str]:
    """Return what a call broke after the file `name` was damaged; `before` is what the folder held before that."""
    found, after = outcome.faults, tree(scenario.root)
    others = [{k: x for k, x in files.items() if k != name} for files in (before, after)]
    allowed = NOTED
    # What is stopped by a folder in place of a file had begun its work.
    if outcome.code == 0 or not scenario.work or "Is a directory" in outcome.err:
        allowed = scenario.replaced
    if outcome.code != 0:  # decoded images may be kept before something else is refused
        others[1] = {k: x for k, x in others[1].items() if k in before or not k.startswith("cache/")}
    if lost := changes(*others, rf"{allowed}|{re.escape(name)}/.*"):
        found.append(f"these changed with exit code {outcome.code}: {lost[:5]}")
    if outcome.code == 0 and scenario.result is not None and re.fullmatch(scenario.exact, name):
        file = scenario.root / scenario.result
        said = scenario.may_warn and "checkpoint" in outcome.err
        if not said and numbers_of(file) != scenario.numbers:
            found.append(f"other numbers in {scenario.result}")
    for array in before:
        if outcome.code == 0 and re.fullmatch(r"cache/.*\.npy", array) and array in after:
            pair = [np.load(io.BytesIO(files[array])) for files in (before, after)]
            if not np.array_equal(*pair):
                found.append(f"another array in {array}")
    return found


def check(scenario: Scenario, data: st.DataObject) -> None:
    """Damage one file, call, compare, and put everything back."""
    before = tree(scenario.root)
    name = data.draw(st.sampled_from(scenario.files()), label="file")
    kind = data.draw(st.sampled_from(KINDS), label="kind")
    what, content = data.draw(damaged(before[name], name), label="damage") if kind == "content" else (kind, None)
    path = scenario.root / name
    stat = path.stat()
    try:
        apply(path, content, kind)
        outcome = scenario.call()
        if broken := faults(scenario, name, before, outcome):
            raise FaultError(f"{name}, {what}: {'; '.join(broken)}\n{outcome}")
    finally:
        restore(scenario.root, before)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # part of the keys of cached arrays


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARES)
def test_a_damaged_file_is_found_or_costs_nothing(scenarios, name):
    fuzz(SHARES[name], lambda data: check(scenarios[name], data))
