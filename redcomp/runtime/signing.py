"""The key that signs entries of the disk cache: this user's own, kept outside of the cache.

A checksum finds what a disk has damaged.  It is no protection against somebody who can write the
cache, on a shared disk for instance, because anybody can compute it.  A signature can be computed
only by who has the key, which is a file of mode 600 in the user's data directory.
"""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

from redcomp import config
from redcomp.trust import COMMON_FLAGS, check_directory, read_file

KEY_BYTES = 32
_NAME, _TEMPORARY_SUFFIX = "cache.key", ".new"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | COMMON_FLAGS


def signing_key() -> bytes:
    """This user's key, which is made if there is none; raises OSError where there can be none."""
    directory = config.data_directory()
    if directory is None:
        raise OSError("without a home directory there is no key; REDCOMP_DATA_DIR can name one")
    return _key_in(directory)


@functools.lru_cache(maxsize=8)
def _key_in(directory: Path) -> bytes:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    check_directory(directory)
    path = directory / _NAME
    key = _read(path)
    if key is None:
        write_whole(path, os.urandom(KEY_BYTES), _TEMPORARY_SUFFIX)
        key = _read(path)  # which another process may have written since
    if key is None:
        raise OSError(f"{path} cannot be read as a key")
    return key


def _read(path: Path) -> bytes | None:
    """The key in a file; None if it is no key, or if anybody else could know or have chosen it."""
    try:
        key = read_file(path, KEY_BYTES, is_secret=True)
    except OSError:
        return None
    return key if len(key) == KEY_BYTES else None


def write_whole(path: Path, contents: bytes, temporary_suffix: str) -> None:
    """Write a file of mode 600 that appears at once and complete, in place of what was there.

    It is not synchronised to the disk: a power failure may truncate it, which a reader must find.
    """
    temporary = path.with_name(f"{path.stem}.{os.urandom(8).hex()}{temporary_suffix}")
    descriptor = os.open(temporary, _CREATE, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(contents)
        os.replace(temporary, path)
    except BaseException:  # an interrupt too must leave nothing behind
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
