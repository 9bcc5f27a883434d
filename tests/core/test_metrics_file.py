"""metrics.jsonl: what a kill has cut is left out, and what is damaged is never dropped in silence."""

import json

import pytest
from runs_cases import start

from edl_jax.core.errors import UserError


def test_metrics_leaves_out_what_a_kill_cut(tmp_path):
    run = start(tmp_path / "run")
    run.log_all([{"step": 1, "x": 0.1}, {"step": 2, "x": 1e-30}])
    path = run.path / "metrics.jsonl"
    whole = path.read_text()
    for end in range(len(whole)):
        path.write_text(whole[:end])
        complete = whole[: end + 1].count("\n")  # a line that lacks nothing but its end counts
        assert run.metrics() == [{"step": 1, "x": 0.1}, {"step": 2, "x": 1e-30}][:complete]
    path.unlink()
    assert run.metrics() == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"17", "it holds a int"),
        (b'{"step": 2', "delimiter"),
        (b'{"step": "2"}', "step is a str, expected a number"),
        (b'{"step": \xff}', "invalid start byte"),
        (b"[" * 100_000, "nested too deeply"),
        (None, "has no line of step 2"),
        (b'{"step": 2, "x": null}', "has no x of step 2"),
        (b'{"step": 2, "x": NaN}', "it holds the number NaN"),
        (b'{"step": 2, "x": 1e999}', "it holds the number 1e999"),
        (b'{"step": 99999999999999999999}', "the number 99999999999999999999... is too large"),
    ],
)
def test_lines_behind_a_damaged_one_are_not_dropped(tmp_path, line, reason):
    run = start(tmp_path / "run")
    parts = (b'{"step": 1, "x": 1}', line, b'{"step": 3, "x": 0.5}', b"")
    content = b"\n".join(part for part in parts if part is not None)
    (run.path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        run.rewind("step", 3, needs=["x"])
    assert (run.path / "metrics.jsonl").read_bytes() == content


def test_rewind_drops_later_lines_and_a_cut_one(tmp_path):
    run = start(tmp_path / "run")
    rows = [{"step": step, "x": step / 3} for step in range(1, 6)]
    run.log_all(rows)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "x"')
    run.rewind("step", 3)
    run.log_all(rows[3:])
    assert (run.path / "metrics.jsonl").read_text() == "".join(json.dumps(row) + "\n" for row in rows)
