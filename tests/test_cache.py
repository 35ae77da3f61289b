"""The disk cache.  Needs no backend."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import stat
import sys
import time

import pytest
from cache_files import entry, files, posix, reports

from redcomp import config
from redcomp.runtime import cache as module
from redcomp.runtime.cache import DiskCache, default_cache

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def warnings_on(monkeypatch):
    monkeypatch.setenv("REDCOMP_DEBUG", "1")


@pytest.fixture
def cache(tmp_path) -> DiskCache:
    return DiskCache(tmp_path / "nested" / "cache")


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 5000])
def test_what_is_stored_is_loaded(cache, caplog, data):
    assert cache.load("key") is None
    cache.store("key", data)
    assert cache.load("key") == data
    assert DiskCache(cache.directory).load("key") == data
    assert reports(caplog) == []


def test_keys_are_apart(cache):
    keys = ["a", "b", "", "a\0", "ä", b"\xff", "x" * 100_000]
    for key in keys:
        cache.store(key, repr(key).encode())
    assert [cache.load(key) for key in keys] == [repr(key).encode() for key in keys]
    assert len(files(cache)) == len(keys)


def test_text_and_its_bytes_are_one_key(cache):
    cache.store("größe", b"data")
    assert cache.load("größe".encode()) == b"data"


def test_a_second_store_replaces_the_first(cache):
    cache.store("key", b"first")
    cache.store("key", b"second")
    assert cache.load("key") == b"second"
    assert len(files(cache)) == 1


def test_a_new_format_misses_without_removing(cache, monkeypatch):
    path = entry(cache)
    monkeypatch.setattr(module, "FORMAT_VERSION", module.FORMAT_VERSION + 1)
    assert cache.load("key") is None
    assert path.exists()


@posix
def test_only_the_user_may_look(cache):
    path = entry(cache)
    assert stat.S_IMODE(path.stat().st_mode) & 0o177 == 0
    assert stat.S_IMODE(cache.directory.stat().st_mode) & 0o077 == 0


def test_every_damaged_byte_is_noticed(cache):
    path = entry(cache)
    good = path.read_bytes()
    for position in range(len(good)):
        damaged = bytearray(good)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        assert cache.load("key") is None, position
        assert not path.exists()
    path.write_bytes(good)
    assert cache.load("key") == b"data"


def test_every_truncation_is_noticed(cache):
    path = entry(cache)
    good = path.read_bytes()
    for size in range(len(good)):
        path.write_bytes(good[:size])
        assert cache.load("key") is None, size
        assert not path.exists()
    path.write_bytes(good + b"\0")
    assert cache.load("key") is None


def test_an_entry_under_the_name_of_another_is_a_miss(cache):
    path = entry(cache, "other", b"other data")
    other = path.read_bytes()
    path.unlink()
    entry(cache, "key").write_bytes(other)
    assert cache.load("key") is None


@posix
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_an_entry_that_others_can_write_is_not_used(cache, caplog, mode):
    path = entry(cache)
    path.chmod(mode)
    assert cache.load("key") is None
    assert cache.load("key") is None
    (report,) = reports(caplog)
    assert "can be written by others" in report
    cache.store("key", b"new")  # puts a file of the right mode in its place
    assert cache.load("key") == b"new"


@posix
def test_an_entry_of_another_user_is_not_used(cache, caplog, monkeypatch):
    entry(cache)
    directory_status, uid = os.lstat(cache.directory), os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    monkeypatch.setattr(os, "lstat", lambda path: with_owner(directory_status, uid + 1))
    assert cache.load("key") is None
    assert f"belongs to user {uid}" in reports(caplog)[0]


@posix
def test_a_directory_of_another_user_is_not_used(cache, caplog, monkeypatch):
    path = entry(cache)
    before, uid = path.read_bytes(), os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    assert cache.load("key") is None
    cache.store("key", b"new")
    assert files(cache) == [path]
    assert path.read_bytes() == before
    (report,) = reports(caplog)
    assert str(cache.directory) in report


def with_owner(status: os.stat_result, uid: int) -> os.stat_result:
    return os.stat_result([*status[:4], uid, *status[5:]])


@posix
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_that_others_can_write_is_not_used(cache, caplog, mode):
    path = entry(cache)
    before = path.read_bytes()
    cache.directory.chmod(mode)
    assert cache.load("key") is None
    cache.store("key", b"new")
    cache.prune()
    assert files(cache) == [path]
    assert path.read_bytes() == before
    assert len(reports(caplog)) == 1


@posix
def test_a_symbolic_link_to_an_entry_is_not_followed(cache, tmp_path, caplog):
    path = entry(cache)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    assert cache.load("key") is None
    assert len(reports(caplog)) == 1
    cache.store("key", b"new")  # replaces the link, not what it points at
    assert cache.load("key") == b"new"
    assert not path.is_symlink()
    assert elsewhere.read_bytes() == before


@posix
def test_a_symbolic_link_to_a_directory_is_not_followed(cache, tmp_path, caplog):
    entry(cache)
    link = tmp_path / "link"
    link.symlink_to(cache.directory)
    assert DiskCache(link).load("key") is None
    DiskCache(link).store("other", b"data")
    assert len(files(cache)) == 1
    assert "is not a directory" in reports(caplog)[0]


@posix
def test_a_named_pipe_is_not_waited_for(cache, caplog):
    path = entry(cache)
    path.unlink()
    os.mkfifo(path, 0o600)
    assert cache.load("key") is None
    assert "is not a regular file" in reports(caplog)[0]


def test_a_directory_in_place_of_an_entry(cache):
    path = entry(cache)
    path.unlink()
    path.mkdir()
    assert cache.load("key") is None
    cache.store("key", b"data")
    assert files(cache) == [path]


def test_a_file_in_place_of_the_directory(tmp_path, caplog):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "cache"):
        cache = DiskCache(place)
        cache.store("key", b"data")
        assert cache.load("key") is None
    assert (tmp_path / "file").read_text() == "mine"
    assert reports(caplog)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("call", ["open", "replace", "makedirs", "lstat"])
def test_a_failing_disk_is_a_miss(cache, monkeypatch, caplog, call, code):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        cache.store("key", b"data")
        assert cache.load("key") is None
        cache.store("key", b"data")
    assert files(cache) == []
    (report,) = reports(caplog)
    assert os.strerror(code) in report
    cache.store("key", b"data")
    assert cache.load("key") == b"data"


def test_a_file_that_cannot_be_opened_is_a_miss(cache, monkeypatch):
    path = entry(cache)

    def fail(*args, **kwargs):
        raise PermissionError(errno.EACCES, "denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        assert cache.load("key") is None
    assert path.exists()


@pytest.mark.parametrize("call", ["utime", "unlink", "scandir"])
def test_housekeeping_may_fail(cache, monkeypatch, call):
    def fail(*args, **kwargs):
        raise PermissionError(errno.EACCES, "denied")

    path = entry(cache)
    monkeypatch.setattr(os, call, fail)
    monkeypatch.setattr(module, "STORES_PER_PRUNE", 1)
    cache.store("other", b"data")
    assert cache.load("key") == b"data"
    path.write_bytes(b"damaged")
    assert cache.load("key") is None


@posix
def test_a_disk_that_is_full_after_a_part_leaves_no_file(cache, caplog):
    import resource

    cache.store("small", b"data")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # Python ignores the signal
    try:
        cache.store("large", bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(files(cache)) == 1
    assert cache.load("large") is None
    assert len(reports(caplog)) == 1


def test_an_interrupted_store_leaves_no_file(cache, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cache.store("key", b"data")
    assert files(cache) == []


def test_silent_unless_asked(cache, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("REDCOMP_DEBUG", "0")
    cache.directory.parent.mkdir()
    cache.directory.write_text("a file")
    cache.store("key", b"data")
    assert cache.load("key") is None
    assert reports(caplog) == []
    monkeypatch.setenv("REDCOMP_DEBUG", "1")
    cache.store("key", b"data")
    assert len(reports(caplog)) == 1


def test_pruning_removes_the_least_recently_used(cache, monkeypatch):
    size = module.HEADER.size + 1000
    cache.limit = 3 * size
    for age, key in enumerate("edcba"):
        before = set(files(cache))
        cache.store(key, bytes(1000))
        (path,) = set(files(cache)) - before
        os.utime(path, (1e9 - age, 1e9 - age))  # "e" is the youngest, "a" the oldest
    assert cache.load("a") is not None  # and now the most recently used
    cache.prune()
    assert [key for key in "abcde" if cache.load(key)] == ["a", "d", "e"]
    cache.prune()
    assert len(files(cache)) == 3


def test_storing_keeps_the_directory_within_its_bound(cache, monkeypatch):
    monkeypatch.setattr(module, "STORES_PER_PRUNE", 4)
    cache.limit = 10 * (module.HEADER.size + 100)
    for k in range(100):
        cache.store(str(k), bytes(100))
        assert len(files(cache)) <= 10 + 4
    assert len(files(cache)) >= 10


def test_the_first_store_of_a_process_prunes(cache):
    for k in range(10):
        cache.store(str(k), bytes(100))
    later = DiskCache(cache.directory, limit=5 * (module.HEADER.size + 100))
    later.store("new", bytes(100))
    assert len(files(cache)) == 5


def test_an_entry_beyond_the_limit_is_not_stored(tmp_path):
    cache = DiskCache(tmp_path / "cache", limit=1000)
    path = entry(cache, "small")
    cache.store("large", bytes(1001))
    assert files(cache) == [path]


def test_pruning_leaves_other_files_and_stores_in_progress(cache):
    entry(cache)
    old = time.time() - 1e6
    foreign, abandoned, fresh = (
        cache.directory / name
        for name in ("notes.tmp", f"a{module.TEMPORARY_SUFFIX}", f"b{module.TEMPORARY_SUFFIX}")
    )
    for path in (foreign, abandoned, fresh):
        path.write_bytes(bytes(1000))
    for path in (foreign, abandoned):
        os.utime(path, (old, old))
    cache.limit = 0
    cache.prune()
    assert files(cache) == sorted([foreign, fresh])


def test_pruning_does_not_mind_files_that_are_gone(cache, monkeypatch):
    for key in "abc":
        cache.store(key, bytes(1000))
    cache.limit = 0
    unlink = os.unlink

    def another_process_was_faster(path):
        unlink(path)
        raise FileNotFoundError(errno.ENOENT, "gone", path)

    monkeypatch.setattr(os, "unlink", another_process_was_faster)
    cache.prune()
    assert files(cache) == []


def _store_many(directory: str, seed: int) -> int:
    """Store and load the keys of all other processes; count what is neither right nor a miss."""
    cache, wrong = DiskCache(directory, limit=20_000), 0
    for k in range(100):
        key = str((k * 7 + seed) % 20)
        cache.store(key, key.encode() * 2000)
        wrong += cache.load(key) not in (None, key.encode() * 2000)
        if k % 5 == seed % 5:
            cache.prune()
    return wrong


def test_processes_may_store_and_prune_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    directory = str(tmp_path / "cache")
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        wrong = pool.starmap(_store_many, [(directory, seed) for seed in range(4)], chunksize=1)
    assert wrong == [0] * 4
    names = os.listdir(directory)
    assert names
    assert not [name for name in names if name.endswith(module.TEMPORARY_SUFFIX)]
    cache = DiskCache(directory)
    loaded = {key: cache.load(key) for key in map(str, range(20))}
    assert sum(data is not None for data in loaded.values()) == len(names)
    assert all(data in (None, key.encode() * 2000) for key, data in loaded.items())


def test_the_default_cache_follows_the_setting(tmp_path, monkeypatch):
    monkeypatch.setenv("REDCOMP_CACHE_DIR", str(tmp_path / "one"))
    first = default_cache()
    assert first is not None
    assert first is default_cache()
    assert first.directory == tmp_path / "one" == config.cache_directory()
    monkeypatch.setenv("REDCOMP_CACHE_DIR", "off")
    assert default_cache() is None


@posix
def test_no_home_is_no_cache(monkeypatch):
    monkeypatch.delenv("REDCOMP_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert default_cache() is None


# -- entries that no store of ours has made --------------------------------------------------------


AN_HOUR = 3600


@pytest.mark.parametrize("ahead", [2 * AN_HOUR, 400 * 24 * AN_HOUR])
def test_entries_from_the_future_do_not_starve_new_ones(cache, ahead):
    cache.limit = 3 * (module.HEADER.size + 100)
    for k in range(3):
        cache.store(str(k), bytes(100))
    for path in files(cache):
        os.utime(path, (time.time() + ahead,) * 2)
    for key in "abc":
        cache.store(key, bytes(100))
    cache.prune()
    assert [key for key in "012abc" if cache.load(key) is not None] == ["a", "b", "c"]


def test_a_temporary_file_from_the_future_is_removed(cache):
    entry(cache)
    path = cache.directory / f"a{module.TEMPORARY_SUFFIX}"
    path.write_bytes(b"")
    os.utime(path, (time.time() + 400 * 24 * AN_HOUR,) * 2)
    cache.prune()
    assert not path.exists()


@posix
def test_a_huge_sparse_entry_is_a_miss_and_is_replaced(cache, caplog):
    path = entry(cache)
    os.truncate(path, 2**43)
    assert cache.load("key") is None
    assert "more than" in reports(caplog)[0]
    cache.store("key", b"new")
    assert cache.load("key") == b"new"


@posix
def test_a_huge_sparse_entry_does_not_push_others_out(cache):
    huge = entry(cache, "huge")
    os.truncate(huge, 2**43)
    cache.store("key", b"data")
    cache.prune()
    assert not huge.exists()
    assert cache.load("key") == b"data"


def test_the_number_of_entries_is_bounded(cache, monkeypatch):
    monkeypatch.setattr(module, "STORES_PER_PRUNE", 4)
    cache.entries = 10
    for k in range(60):
        cache.store(str(k), b"")
        assert len(files(cache)) <= 10 + 4
    cache.prune()
    assert len(files(cache)) == 10
    assert cache.load("59") == b""
