"""A content-addressed cache of compiled objects on disk.

An entry is found by a digest of its key, so the key must name everything that the object depends
on: the kernel's text, the target, the versions of the compiler.  Objects are machine code that the
process will run; so what another user could have written is never read, and what is not signed by
this user's own key, which is kept outside of the cache, is never returned (see `signing`).

The cache only ever saves time.  Whatever goes wrong with the disk is a miss, reported once through
the logger "redcomp" if REDCOMP_DEBUG is at least 1, and no exception.

Many processes may share a directory: an entry appears at once and complete (`os.replace`), two that
store the same key write the same bytes, and pruning does not mind files that are already gone.
"""

from __future__ import annotations

import contextlib
import functools
import hmac
import itertools
import logging
import os
import struct
import time
from pathlib import Path

from redcomp import config
from redcomp.runtime.signing import signing_key, write_whole
from redcomp.trust import check_directory, read_file

MAGIC, FORMAT_VERSION = b"redcomp\0", 2
# magic, format version, signature, digest of the key; the payload follows.
HEADER = struct.Struct("<8sI32s32s")

# Unlikely in a directory that also holds something else: pruning deletes by these suffixes.
SUFFIX, TEMPORARY_SUFFIX = ".redcomp", ".redcomp-new"
DEFAULT_LIMIT, DEFAULT_ENTRIES = 256 * 2**20, 8192
STORES_PER_PRUNE = 64
AN_HOUR_NS = 3600 * 10**9

_logger = logging.getLogger("redcomp")


class DiskCache:
    """A directory of signed entries, the least recently used of which are dropped.

    limit    the bytes of all entries, about
    entries  the number of entries, about

    Its methods may be called from any thread, and raise nothing on account of the file system.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        limit: int = DEFAULT_LIMIT,
        entries: int = DEFAULT_ENTRIES,
    ) -> None:
        self.directory, self.limit, self.entries = Path(directory), limit, entries
        self._stores = itertools.count()
        self._reported = False

    def load(self, key: bytes | str) -> bytes | None:
        """The data stored under `key`, or None; a damaged entry is removed."""
        try:
            secret = signing_key()
            digest = _digest(secret, key)
            path = self._path(digest)
            check_directory(self.directory)
            contents = read_file(path, HEADER.size + self.limit)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._report(error)
            return None
        data = _unpack(contents, secret, digest)
        with contextlib.suppress(OSError):
            if data is None:
                os.unlink(path)
            else:
                os.utime(path)  # the time of last use, for `prune`; many disks keep no access times
        return data

    def store(self, key: bytes | str, data: bytes) -> None:
        """Keep `data` under `key`, in place of what was there, if the disk lets us."""
        if len(data) > self.limit:
            return
        try:
            secret = signing_key()
            digest = _digest(secret, key)
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            check_directory(self.directory)
            contents = _header(data, secret, digest) + data
            write_whole(self._path(digest), contents, TEMPORARY_SUFFIX)
        except OSError as error:
            self._report(error)
            return
        # From the first store on: many processes live for one or two stores only.
        if next(self._stores) % STORES_PER_PRUNE == 0:
            self.prune()

    def prune(self) -> None:
        """Remove least recently used entries beyond the limits, and files of killed processes."""
        entries: list[tuple[int, int, str]] = []
        now = time.time_ns()
        try:
            check_directory(self.directory)
            with os.scandir(self.directory) as files:
                for file in files:
                    if file.name.endswith((SUFFIX, TEMPORARY_SUFFIX)):
                        status = file.stat(follow_symlinks=False)
                        # Else what a wrong clock has dated would never be the oldest.
                        is_past = status.st_mtime_ns < now + AN_HOUR_NS
                        last_use = status.st_mtime_ns if is_past else 0
                        entries.append((last_use, status.st_size, file.path))
        except OSError as error:  # most likely another process that prunes as well
            self._report(error)
            return
        excess = sum(size for _, size, _ in entries) - self.limit
        surplus = len(entries) - self.entries
        for last_use, size, path in sorted(entries, key=self._order):
            if path.endswith(TEMPORARY_SUFFIX):
                is_dropped = last_use < now - AN_HOUR_NS
            else:
                is_dropped = excess > 0 or surplus > 0
            if is_dropped:
                with contextlib.suppress(OSError):
                    os.unlink(path)
                excess, surplus = excess - size, surplus - 1

    def clear(self) -> None:
        """Remove all entries."""
        try:
            check_directory(self.directory)
            with os.scandir(self.directory) as files:
                paths = [file.path for file in files if file.name.endswith(SUFFIX)]
        except FileNotFoundError:
            return
        except OSError as error:
            self._report(error)
            return
        for path in paths:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _order(self, entry: tuple[int, int, str]) -> tuple[bool, int]:
        """What is too long to have been stored goes first, so that nothing makes room for it."""
        last_use, size, _ = entry
        return size <= HEADER.size + self.limit, last_use

    def _path(self, digest: bytes) -> Path:
        return self.directory / (digest.hex() + SUFFIX)

    def _report(self, error: OSError) -> None:
        if not self._reported and config.debug() >= 1:
            self._reported = True
            _logger.warning("the disk cache %s is of no use: %s", self.directory, error)


def default_cache() -> DiskCache | None:
    """The cache in `config.cache_directory()`; None where the disk cache is off."""
    directory = config.cache_directory()
    return None if directory is None else _cache_in(directory)


@functools.lru_cache(maxsize=8)
def _cache_in(directory: Path) -> DiskCache:
    return DiskCache(directory)


def _digest(secret: bytes, key: bytes | str) -> bytes:
    """What an entry is found by, which is another one for each user's key.

    It includes the format's version: versions in one directory do not undo each other's work.
    """
    key = key.encode() if isinstance(key, str) else key
    return hmac.digest(secret, b"%s%d\0%s" % (MAGIC, FORMAT_VERSION, key), "sha256")


def _header(data: bytes, secret: bytes, digest: bytes) -> bytes:
    signature = hmac.digest(secret, digest + data, "sha256")
    return HEADER.pack(MAGIC, FORMAT_VERSION, signature, digest)


def _unpack(contents: bytes, secret: bytes, digest: bytes) -> bytes | None:
    """The payload; None if the contents are not what `store` writes under this digest."""
    data = contents[HEADER.size :]
    is_signed = hmac.compare_digest(contents[: HEADER.size], _header(data, secret, digest))
    return data if is_signed else None
