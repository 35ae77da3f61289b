"""What another user of the machine could have written is neither run nor written over."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

# Flags that a platform lacks do nothing.  O_NONBLOCK: no waiting for the writer of a named pipe.
COMMON_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | COMMON_FLAGS | getattr(os, "O_NONBLOCK", 0)


class UntrustedError(OSError):
    """A file or directory that somebody else could have written, or read if it is secret."""


def check_directory(path: Path) -> None:
    """Raise UntrustedError unless a path is a directory that only this user can write."""
    _check(os.lstat(path), stat.S_IFDIR, path, stat.S_IWGRP | stat.S_IWOTH)


def read_file(path: Path, limit: int, is_secret: bool = False) -> bytes:
    """The contents of a regular file that only this user can write, and read if it is secret.

    Raises UntrustedError, also if it is longer than `limit` bytes.
    """
    denied = stat.S_IRWXG | stat.S_IRWXO if is_secret else stat.S_IWGRP | stat.S_IWOTH
    with open(os.open(path, _READ), "rb") as file:
        # The status of the open file: the name may stand for another one by now.
        status = os.fstat(file.fileno())
        _check(status, stat.S_IFREG, path, denied)
        if status.st_size > limit:  # which may be more than there is memory for
            raise UntrustedError(f"{path} has {status.st_size} bytes, more than {limit}")
        return file.read(limit)


def _check(status: os.stat_result, kind: int, path: Path, denied: int) -> None:
    if stat.S_IFMT(status.st_mode) != kind:
        expected = "directory" if kind == stat.S_IFDIR else "regular file"
        raise UntrustedError(f"{path} is not a {expected}")
    if sys.platform == "win32":  # profiles are private by access control lists, which stat hides
        return
    if status.st_uid != os.geteuid():
        raise UntrustedError(f"{path} belongs to user {status.st_uid}, not {os.geteuid()}")
    if status.st_mode & denied:
        verb = "read" if denied & stat.S_IRGRP else "written"
        mode = f"mode {status.st_mode & 0o7777:o}"
        raise UntrustedError(f"{path} can be {verb} by others: {mode}")
