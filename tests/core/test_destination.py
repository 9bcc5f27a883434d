"""Which directory a run may have: default names, --resume and --overwrite, and paths of every kind."""

import pytest
from runs_cases import Config, assert_same, make_state, read, start, tree

from edl_jax.core import destination
from edl_jax.core.errors import UserError
from edl_jax.core.runs import Run, read_checkpoint


def test_default_directories_of_the_same_second_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(destination.time, "strftime", lambda *_: "20260102-030405")
    alive = [Run.open("test", Config(), out=None) for _ in range(3)]
    paths = [run.path for run in alive]
    assert [path.name for path in paths] == ["test-20260102-030405" + end for end in ("", "-2", "-3")]
    assert {path.parent for path in paths} == {tmp_path / "runs"}


def test_existing_directory_is_refused_and_untouched(tmp_path):
    start(tmp_path / "run").finish({"accuracy": 1})
    before = tree(tmp_path)
    with pytest.raises(UserError, match="run exists: give --resume to continue it, --overwrite to replace it"):
        start(tmp_path / "run")
    assert tree(tmp_path) == before


def test_empty_directory_is_taken(tmp_path):
    (tmp_path / "run").mkdir()
    start(tmp_path / "run").close()
    assert (tmp_path / "run" / "config.json").is_file()


def test_overwrite_replaces_a_run(tmp_path):
    old = start(tmp_path / "run")
    old.log({"step": 1})
    old.save(1, make_state(1))
    old.finish({})
    (old.path / "link").symlink_to(tmp_path)
    new = start(tmp_path / "run", overwrite=True)
    assert {child.name for child in new.path.iterdir()} == {".lock", "config.json", "environment.json"}
    assert new.metrics() == []
    assert new.restore(make_state(0)) is None


def test_interrupted_overwrite_can_be_repeated(tmp_path, monkeypatch):
    run = start(tmp_path / "run")
    run.save(1, make_state(1))
    run.finish({})

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(destination.shutil, "rmtree", interrupt)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "run", overwrite=True)
    monkeypatch.undo()
    new = start(tmp_path / "run", overwrite=True)
    assert {child.name for child in new.path.iterdir()} == {".lock", "config.json", "environment.json"}


def test_overwrite_works_through_a_link(tmp_path):
    start(tmp_path / "run").finish({})
    (tmp_path / "link").symlink_to(tmp_path / "run")
    start(tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize("content", [None, '{"model_type": "bert"}', "[1]", "null"])
def test_overwrite_deletes_nothing_but_runs(tmp_path, content):
    (tmp_path / "thesis.tex").write_text("years of work")
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    before = tree(tmp_path)
    with pytest.raises(UserError, match="is no run directory"):
        start(tmp_path, overwrite=True)
    assert tree(tmp_path) == before


def test_overwrite_replaces_a_run_with_a_damaged_config(tmp_path):
    start(tmp_path / "run").finish({})
    (tmp_path / "run" / "config.json").write_text('{"command": "te')
    start(tmp_path / "run", overwrite=True)
    assert read(tmp_path / "run" / "config.json")["command"] == "test"


def test_resume_continues_a_run(tmp_path):
    first = start(tmp_path / "run")
    first.log({"step": 1})
    first.close()
    second = start(tmp_path / "run", resume=True)
    assert (first.resumed, second.resumed) == (False, True)
    second.log({"step": 2})
    assert second.metrics() == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("flag", ["resume", "overwrite"])
def test_a_run_that_was_killed_before_its_config_was_written_starts(tmp_path, flag):
    none, alive, other = (tmp_path / name for name in (f".config.json.{10**12}.tmp", ".x.json.1.tmp", ".notes.tmp"))
    for path in (none, alive, other):
        path.write_text('{"comm')
    start(tmp_path, **{flag: True})
    assert read(tmp_path / "config.json")["command"] == "test"
    assert [path.exists() for path in (none, alive, other)] == [False, True, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (Config(lr=0.2), r"config.lr: 0.1 -> 0.2"),
        (Config(widths=(4,)), r"config.widths: \[4, 8\] -> \[4\]"),
        (Config(lr=0.2, widths=()), r"config.lr: 0.1 -> 0.2; config.widths: \[4, 8\] -> \[\]"),
    ],
)
def test_resume_with_another_config_names_the_keys(tmp_path, changes, message):
    start(tmp_path / "run").close()
    before = tree(tmp_path)
    with pytest.raises(UserError, match=rf"another config \({message}\)"):
        Run.open("test", changes, out=tmp_path / "run", resume=True)
    assert tree(tmp_path) == before


def test_resume_of_another_command_is_refused(tmp_path):
    start(tmp_path / "run").close()
    with pytest.raises(UserError, match="command: test -> other"):
        Run.open("other", Config(), out=tmp_path / "run", resume=True)


@pytest.mark.parametrize("content", [b"", b'{"command": "te', b"[1]", b"null", b"\xff\xfe"])
def test_resume_with_a_damaged_config_says_so(tmp_path, content):
    start(tmp_path / "run").close()
    (tmp_path / "run" / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config.json is damaged .*: start again with --overwrite") as caught:
        start(tmp_path / "run", resume=True)
    assert "\n" not in str(caught.value)


def test_resume_needs_a_run(tmp_path):
    with pytest.raises(UserError, match="--resume needs the run directory: give it with --out"):
        Run.open("test", Config(), out=None, resume=True)
    with pytest.raises(UserError, match="no run to resume at"):
        start(tmp_path / "nowhere", resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="is no run directory"):
        start(tmp_path / "other", resume=True)
    with pytest.raises(UserError, match="contradict"):
        start(tmp_path / "nowhere", resume=True, overwrite=True)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("resume", [False, True])
def test_paths_that_cannot_be_directories_are_refused_in_a_line(tmp_path, resume):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match=r"give another --out|no run to resume") as caught:
            start(path, resume=resume)
        assert "\n" not in str(caught.value)
        with pytest.raises(UserError), Run.preparing("test", Config(), out=path, resume=resume):
            raise AssertionError("work began")
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize(
    "name", ["a [b] *?", "back\\slash", "two\nlines", "-dash", "ünïcödé 学习", "dot.", "{a,b}%41#$x$", "n" * 200]
)
def test_a_path_is_a_string_and_no_pattern(tmp_path, name):
    run = start(tmp_path / name / "run [1]")
    run.save(1, make_state(1))
    run.log({"step": 1})
    run.finish({})
    step, state = read_checkpoint(run.path, make_state(0))
    assert step == 1
    assert_same(state, make_state(1))
    assert start(run.path, resume=True).metrics() == [{"step": 1}]
