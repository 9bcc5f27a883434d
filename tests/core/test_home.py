"""A process without a home directory, and caches that cannot be written: one line, and the work is done."""

import os
from pathlib import Path
from types import SimpleNamespace

import jax
import platformdirs
import pytest

from edl_jax.backend import cache as programs
from edl_jax.core import home
from edl_jax.core.errors import UserError
from edl_jax.data import cache, tfds_directory


@pytest.fixture
def homeless(monkeypatch):
    """No HOME, under a number that is no user."""
    import pwd

    def unknown(_):
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setenv("HOME", "")
    for name in ("EDL_JAX_CACHE_DIR", "TFDS_DATA_DIR", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def settings(monkeypatch):
    """What is changed of JAX's settings."""
    found = {}
    monkeypatch.setattr(jax, "config", SimpleNamespace(jax_compilation_cache_dir=None, update=found.__setitem__))
    return found


def test_a_temporary_home_is_made_and_said(homeless, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(home.tempfile, "mkdtemp", lambda **_: str(tmp_path))
    removed = []
    monkeypatch.setattr(home.atexit, "register", lambda *args, **_: removed.append(args[1]))
    home.ensure()
    home.ensure()
    assert Path.home() == tmp_path
    assert removed == [str(tmp_path)]
    assert caplog.messages == [f"no home directory: caches are kept in {tmp_path} until the end; set HOME"]


def test_without_any_home_a_line_says_what_to_set(homeless, monkeypatch, settings):
    def full(**_):
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(home.tempfile, "mkdtemp", full)
    home.ensure()
    assert "HOME" not in os.environ
    with pytest.raises(UserError, match="set HOME"):
        cache.directory()
    with pytest.raises(UserError, match=r"~/tensorflow_datasets cannot be expanded: this user has no home .* set HOME"):
        tfds_directory.resolve(None)
    programs.enable()
    assert settings == {}


def test_the_usual_cache_of_programs_is_taken_where_it_can_be_written(monkeypatch, settings, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path / "file"))
    programs.enable()
    assert settings == {}
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path / "cache"))
    programs.enable()
    assert settings["jax_compilation_cache_dir"].startswith(str(tmp_path / "cache" / "jax"))
