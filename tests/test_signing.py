"""Signatures of the disk cache's entries.  Needs no backend."""

from __future__ import annotations

import hashlib
import hmac
import multiprocessing
import os
import stat
import sys
from pathlib import Path

import pytest
from cache_files import entry, files, posix, reports

from redcomp import config
from redcomp.runtime import cache as module
from redcomp.runtime import signing
from redcomp.runtime.cache import DiskCache

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def warnings_on(monkeypatch):
    monkeypatch.setenv("REDCOMP_DEBUG", "1")


@pytest.fixture
def cache(tmp_path) -> DiskCache:
    return DiskCache(tmp_path / "nested" / "cache")


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """The directory of the signing key, which is not there yet."""
    monkeypatch.setenv("REDCOMP_DATA_DIR", str(tmp_path / "nested" / "data"))
    return tmp_path / "nested" / "data"


def forget_keys() -> None:
    """As a new process would."""
    signing._key_in.cache_clear()


def test_the_key_is_made_once_and_only_its_user_may_read_it(cache, data):
    path = entry(cache)
    (key,) = data.iterdir()
    assert len(key.read_bytes()) == signing.KEY_BYTES
    if sys.platform != "win32":
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
    before = key.read_bytes()
    forget_keys()
    assert cache.load("key") == b"data"
    assert key.read_bytes() == before
    assert before not in path.read_bytes()


def test_what_another_key_has_signed_is_a_miss(cache, data, tmp_path, monkeypatch):
    path = entry(cache)
    monkeypatch.setenv("REDCOMP_DATA_DIR", str(tmp_path / "other"))
    assert cache.load("key") is None
    cache.store("key", b"other data")
    (other,) = set(files(cache)) - {path}
    other.write_bytes(path.read_bytes())  # where this user looks
    assert cache.load("key") is None
    assert not other.exists()
    monkeypatch.setenv("REDCOMP_DATA_DIR", str(data))
    assert cache.load("key") == b"data"


def test_who_writes_an_entry_without_the_key_is_not_believed(cache, data):
    """All that stands in the source is known, and every header that can be made from it refused."""
    path = entry(cache)
    header, payload = path.read_bytes()[: module.HEADER.size], b"something else"
    magic, version, _, digest = module.HEADER.unpack(header)
    for guess in (b"", bytes(32), digest, magic):
        signatures = (
            hashlib.sha256(payload).digest(),
            hashlib.sha256(guess + payload).digest(),
            hmac.digest(guess, digest + payload, "sha256"),
        )
        for signature in signatures:
            path.write_bytes(module.HEADER.pack(magic, version, signature, digest) + payload)
            assert cache.load("key") is None
            assert not path.exists()


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_key_that_others_could_know_is_replaced(cache, data, mode):
    entry(cache)
    (key,) = data.iterdir()
    before = key.read_bytes()
    key.chmod(mode)
    forget_keys()
    assert cache.load("key") is None
    assert key.read_bytes() != before
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


@pytest.mark.parametrize("contents", [b"", b"short", bytes(33)])
def test_a_broken_key_is_replaced(cache, data, contents):
    entry(cache)
    (key,) = data.iterdir()
    key.write_bytes(contents)
    forget_keys()
    assert cache.load("key") is None
    cache.store("key", b"new")
    forget_keys()
    assert cache.load("key") == b"new"
    assert list(data.iterdir()) == [key]


@posix
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_key_in_a_directory_that_others_can_write_is_not_used(cache, data, caplog, mode):
    data.mkdir(parents=True)
    data.chmod(mode)
    cache.store("key", b"data")
    assert cache.load("key") is None
    assert files(cache) == []
    assert "can be written by others" in reports(caplog)[0]
    assert list(data.iterdir()) == []


@posix
def test_a_link_in_place_of_the_key_is_replaced(cache, data, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(bytes(32))
    elsewhere.chmod(0o600)
    data.mkdir(parents=True, mode=0o700)
    (data / "cache.key").symlink_to(elsewhere)
    entry(cache)
    assert elsewhere.read_bytes() == bytes(32)
    assert not (data / "cache.key").is_symlink()


def test_without_a_place_for_a_key_there_is_no_cache(cache, data, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(config, "data_directory", lambda: None)
    cache.store("key", b"data")
    assert cache.load("key") is None
    assert files(cache) == []
    assert "REDCOMP_DATA_DIR" in reports(caplog)[0]
    monkeypatch.undo()
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("REDCOMP_DATA_DIR", str(tmp_path / "file" / "data"))
    cache.store("key", b"data")
    assert files(cache) == []


def _store_one(place: tuple[str, str, int]) -> bool:
    directory, data, k = place
    os.environ["REDCOMP_DATA_DIR"] = data
    cache = DiskCache(directory)
    cache.store(str(k), b"data")
    return cache.load(str(k)) == b"data"


def test_processes_that_make_the_key_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    places = [(str(tmp_path / "cache"), str(tmp_path / "data"), k) for k in range(4)]
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert all(pool.map(_store_one, places, chunksize=1))
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["cache.key"]
