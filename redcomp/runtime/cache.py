"""A content-addressed cache of compiled objects on disk.

An entry is found by the SHA-256 of its key, so the key must name everything that the object depends
on: the kernel's text, the target, the versions of the compiler.  Objects are machine code that the
process will run; so what another user could have written is never read, and what the checksum does
not confirm is never returned.

The cache only ever saves time.  Whatever goes wrong with the disk is a miss, reported once through
the logger "redcomp" if REDCOMP_DEBUG is at least 1, and no exception.

Many processes may share a directory: an entry appears at once and complete (`os.replace`), two that
store the same key write the same bytes, and pruning does not mind files that are already gone.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import logging
import os
import secrets
import stat
import struct
import sys
import time
from pathlib import Path

from redcomp import config

MAGIC, FORMAT_VERSION = b"redcomp\0", 1
# magic, format version, SHA-256 of the payload, digest of the key; the payload follows.
HEADER = struct.Struct("<8sI32s32s")

# Unlikely in a directory that also holds something else: pruning deletes by these suffixes.
SUFFIX, TEMPORARY_SUFFIX = ".redcomp", ".redcomp-new"
DEFAULT_LIMIT = 256 * 2**20
STORES_PER_PRUNE = 64
ABANDONED_AFTER_NS = 3600 * 10**9

# Flags that a platform lacks do nothing.  O_NONBLOCK: no waiting for the writer of a named pipe.
_COMMON_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | _COMMON_FLAGS | getattr(os, "O_NONBLOCK", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _COMMON_FLAGS

_logger = logging.getLogger("redcomp")


class UntrustedError(OSError):
    """A file or directory of the cache that somebody else could have written."""


class DiskCache:
    """A directory of entries, bounded to about `limit` bytes by dropping the least recently used.

    Its methods may be called from any thread, and raise nothing on account of the file system.
    """

    def __init__(self, directory: str | os.PathLike[str], limit: int = DEFAULT_LIMIT) -> None:
        self.directory, self.limit = Path(directory), limit
        self._stores = itertools.count()
        self._reported = False

    def load(self, key: bytes | str) -> bytes | None:
        """The data stored under `key`, or None; a damaged entry is removed."""
        digest = _digest(key)
        path = self._path(digest)
        try:
            self._check_directory()
            contents = _read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._report(error)
            return None
        data = _unpack(contents, digest)
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
        digest = _digest(key)
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            self._check_directory()
            self._write(self._path(digest), _header(data, digest) + data)
        except OSError as error:
            self._report(error)
            return
        # From the first store on: many processes live for one or two stores only.
        if next(self._stores) % STORES_PER_PRUNE == 0:
            self.prune()

    def prune(self) -> None:
        """Remove least recently used entries beyond the limit, and files of killed processes."""
        entries: list[tuple[int, int, str]] = []
        try:
            self._check_directory()
            with os.scandir(self.directory) as files:
                for file in files:
                    if file.name.endswith((SUFFIX, TEMPORARY_SUFFIX)):
                        status = file.stat(follow_symlinks=False)
                        entries.append((status.st_mtime_ns, status.st_size, file.path))
        except OSError as error:  # most likely another process that prunes as well
            self._report(error)
            return
        excess = sum(size for _, size, _ in entries) - self.limit
        abandoned = time.time_ns() - ABANDONED_AFTER_NS
        for last_use, size, path in sorted(entries):
            temporary = path.endswith(TEMPORARY_SUFFIX)
            if (last_use < abandoned) if temporary else (excess > 0):
                with contextlib.suppress(OSError):
                    os.unlink(path)
                excess -= size

    def _path(self, digest: bytes) -> Path:
        return self.directory / (digest.hex() + SUFFIX)

    def _check_directory(self) -> None:
        _check_trusted(os.lstat(self.directory), stat.S_IFDIR, self.directory)

    def _write(self, path: Path, contents: bytes) -> None:
        # Not synchronised to the disk: what a power failure truncates, the checksum finds.
        temporary = path.with_name(f"{path.stem}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
        descriptor = os.open(temporary, _CREATE, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(contents)
            os.replace(temporary, path)
        except BaseException:  # an interrupt too must leave nothing behind
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

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


def _digest(key: bytes | str) -> bytes:
    """Includes the format's version: versions in one directory do not undo each other's work."""
    key = key.encode() if isinstance(key, str) else key
    return hashlib.sha256(b"%s%d\0%s" % (MAGIC, FORMAT_VERSION, key)).digest()


def _header(data: bytes, digest: bytes) -> bytes:
    return HEADER.pack(MAGIC, FORMAT_VERSION, hashlib.sha256(data).digest(), digest)


def _unpack(contents: bytes, digest: bytes) -> bytes | None:
    """The payload; None if the contents are not what `store` writes under this digest."""
    data = contents[HEADER.size :]
    return data if contents[: HEADER.size] == _header(data, digest) else None


def _read(path: Path) -> bytes:
    with open(os.open(path, _READ), "rb") as file:
        # The status of the open file: the name may stand for another one by now.
        _check_trusted(os.fstat(file.fileno()), stat.S_IFREG, path)
        return file.read()


def _check_trusted(status: os.stat_result, kind: int, path: Path) -> None:
    if stat.S_IFMT(status.st_mode) != kind:
        expected = "directory" if kind == stat.S_IFDIR else "regular file"
        raise UntrustedError(f"{path} is not a {expected}")
    if sys.platform == "win32":  # profiles are private by access control lists, which stat hides
        return
    if status.st_uid != os.geteuid():
        raise UntrustedError(f"{path} belongs to user {status.st_uid}, not {os.geteuid()}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UntrustedError(f"{path} can be written by others: mode {status.st_mode & 0o7777:o}")
