"""Settings from the environment.  Needs no backend."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from redcomp import config
from redcomp.errors import RedcompError


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in list(os.environ):
        if name.startswith("REDCOMP_"):
            monkeypatch.delenv(name)


def test_defaults():
    assert config.num_threads() >= 1
    assert config.debug() == 0
    assert config.dump_directory() is None
    assert config.override_directory() is None
    assert config.verify() is False
    assert config.gpu_fallback() is False
    assert config.progress() is False
    assert config.target() == ""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs sched_getaffinity")
def test_threads_default_to_the_cpus_of_the_process():
    assert config.num_threads() == len(os.sched_getaffinity(0))


def test_values_are_understood(monkeypatch):
    monkeypatch.setenv("REDCOMP_NUM_THREADS", " 7 ")
    monkeypatch.setenv("REDCOMP_DEBUG", "4")
    monkeypatch.setenv("REDCOMP_TARGET", "avx2")
    assert (config.num_threads(), config.debug(), config.target()) == (7, 4, "avx2")


def test_a_change_counts_at_once(monkeypatch):
    seen = []
    for value in ("3", "5", "3"):
        monkeypatch.setenv("REDCOMP_NUM_THREADS", value)
        seen.append(config.num_threads())
    monkeypatch.delenv("REDCOMP_NUM_THREADS")
    assert [*seen, config.debug()] == [3, 5, 3, 0]
    monkeypatch.setenv("REDCOMP_DEBUG", "2")
    assert config.debug() == 2


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("REDCOMP_NUM_THREADS", "0", config.num_threads),
        ("REDCOMP_NUM_THREADS", "-2", config.num_threads),
        ("REDCOMP_NUM_THREADS", "two", config.num_threads),
        ("REDCOMP_NUM_THREADS", "1.5", config.num_threads),
        ("REDCOMP_DEBUG", "5", config.debug),
        ("REDCOMP_DEBUG", "-1", config.debug),
        ("REDCOMP_DEBUG", "on", config.debug),
        ("REDCOMP_VERIFY", "perhaps", config.verify),
        ("REDCOMP_GPU_FALLBACK", "GPU", config.gpu_fallback),
    ],
)
def test_a_bad_value_is_an_error_that_names_the_variable(monkeypatch, name, value, read):
    monkeypatch.setenv(name, value)
    for _ in range(2):  # the second time, too: a failure is not remembered as a value
        with pytest.raises(config.ConfigError, match=name) as caught:
            read()
        assert isinstance(caught.value, RedcompError)
        assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", False), ("0", False), ("off", False), ("1", True), ("ON", True), ("yes", True)],
)
def test_switches(monkeypatch, value, expected):
    monkeypatch.setenv("REDCOMP_VERIFY", value)
    assert config.verify() is expected


def test_empty_counts_as_unset(monkeypatch):
    monkeypatch.setenv("REDCOMP_DEBUG", "")
    monkeypatch.setenv("REDCOMP_DUMP", "")
    monkeypatch.setenv("REDCOMP_NUM_THREADS", "")
    assert config.debug() == 0
    assert config.dump_directory() is None
    assert config.num_threads() >= 1


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("REDCOMP_DUMP", config.dump_directory),
        ("REDCOMP_OVERRIDE", config.override_directory),
        ("REDCOMP_CACHE_DIR", config.cache_directory),
    ],
)
def test_a_directory_does_not_move_with_the_working_directory(monkeypatch, tmp_path, name, read):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, f"stages-{name}")
    assert read() == tmp_path / f"stages-{name}"
    monkeypatch.chdir(tmp_path / "a")
    assert read() == tmp_path / f"stages-{name}"


@pytest.mark.parametrize("value", ["", "0", "off", "OFF"])
def test_the_disk_cache_can_be_switched_off(monkeypatch, value):
    monkeypatch.setenv("REDCOMP_CACHE_DIR", value)
    assert config.cache_directory() is None


def test_the_disk_cache_has_a_default_directory(monkeypatch, tmp_path):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    directory = config.cache_directory()
    assert directory is not None
    assert directory.name == "redcomp"
    assert tmp_path in directory.parents


@pytest.mark.skipif(sys.platform == "win32", reason="HOME is the home directory on POSIX only")
@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/caches"}, "/caches/redcomp"),
        ("linux", {}, "/home/ada/.cache/redcomp"),
        ("linux", {"XDG_CACHE_HOME": ""}, "/home/ada/.cache/redcomp"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/ada/.cache/redcomp"),
        ("darwin", {"XDG_CACHE_HOME": "/caches"}, "/home/ada/Library/Caches/redcomp"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/redcomp"),
    ],
)
def test_default_cache_directories(monkeypatch, platform, environ, expected):
    monkeypatch.setenv("HOME", "/home/ada")
    assert config.default_cache_directory(platform, environ) == Path(expected)


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_without_a_home_there_is_no_cache_directory(monkeypatch, platform):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does without a home
    assert config.default_cache_directory(platform, {}) is None


@pytest.mark.skipif(sys.platform == "win32", reason="HOME is the home directory on POSIX only")
@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {"XDG_DATA_HOME": "/data"}, "/data/redcomp"),
        ("linux", {}, "/home/ada/.local/share/redcomp"),
        ("linux", {"XDG_DATA_HOME": "relative"}, "/home/ada/.local/share/redcomp"),
        ("darwin", {}, "/home/ada/Library/Application Support/redcomp"),
        ("win32", {"APPDATA": "/roaming"}, "/roaming/redcomp"),
    ],
)
def test_default_data_directories(monkeypatch, platform, environ, expected):
    monkeypatch.setenv("HOME", "/home/ada")
    assert config.default_data_directory(platform, environ) == Path(expected)
    assert config.default_cache_directory(platform, environ) != Path(expected)


def test_the_data_directory_can_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv("REDCOMP_DATA_DIR", str(tmp_path))
    assert config.data_directory() == tmp_path
    monkeypatch.setenv("REDCOMP_DATA_DIR", "")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does without a home
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("APPDATA", raising=False)
    assert config.data_directory() is None
