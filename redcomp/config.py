"""Settings from the environment, one function each, read when the function is called.

| variable             | values                                | default                           |
|----------------------|---------------------------------------|-----------------------------------|
| REDCOMP_NUM_THREADS  | threads of a host call, at least 1    | the CPUs this process may use     |
| REDCOMP_DEBUG        | 0 to 4: how much is logged            | 0                                 |
| REDCOMP_DUMP         | directory: write each stage there     | none                              |
| REDCOMP_OVERRIDE     | directory: read edited stages from it | none                              |
| REDCOMP_CACHE_DIR    | directory of the disk cache;          | the user's cache directory, below |
|                      | empty, 0 or off: no disk cache        |                                   |
| REDCOMP_DATA_DIR     | directory of the key that signs the   | the user's data directory, below  |
|                      | disk cache's entries                  |                                   |
| REDCOMP_PROGRESS     | 1: show the progress of long calls    | 0                                 |
|                      | and solves                            |                                   |
| REDCOMP_VERIFY       | 1: check the IR after every pass      | 0                                 |
| REDCOMP_TARGET       | host target: sse2, avx2, avx512, neon | empty: the machine it runs on     |
| REDCOMP_GPU_FALLBACK | 1: where there is no GPU, calls with  | 0: they raise DeviceError         |
|                      | backend="GPU" run on the host         |                                   |

The user's cache directory is $XDG_CACHE_HOME/redcomp or ~/.cache/redcomp, on macOS
~/Library/Caches/redcomp, on Windows %LOCALAPPDATA%\\redcomp.  The user's data directory is
$XDG_DATA_HOME/redcomp or ~/.local/share/redcomp, on macOS ~/Library/Application Support/redcomp, on
Windows %APPDATA%\\redcomp.

Except for REDCOMP_CACHE_DIR an empty value counts as unset.  A value that cannot be understood
raises `ConfigError`, which names the variable.

A change in a running process counts from the next call on.  A call costs about a microsecond,
nearly all of it the lookup in `os.environ`; `cache_directory` costs some, only compiling needs it.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redcomp.errors import RedcompError

SWITCH: Mapping[str, bool] = {
    **dict.fromkeys(("", "0", "off", "false", "no"), False),
    **dict.fromkeys(("1", "on", "true", "yes"), True),
}

# What `os.environ` keeps, on each platform in a form of its own.
_VALUES: Mapping[Any, Any] = getattr(os.environ, "_data", os.environ)
_TARGET: Any = "REDCOMP_TARGET"
if _VALUES is not os.environ:
    _TARGET = os.environ.encodekey(_TARGET)


class ConfigError(RedcompError, ValueError):
    """An environment variable with a value that redcomp does not understand."""


def num_threads() -> int:
    """REDCOMP_NUM_THREADS: how many threads work on one call on the host."""
    raw = os.environ.get("REDCOMP_NUM_THREADS")
    return _integer("REDCOMP_NUM_THREADS", raw, 1, None) if raw else _usable_cpus()


def debug() -> int:
    """REDCOMP_DEBUG: 0 is silent; 1 a line a compile, 2 the IR, 3 LLVM, 4 machine code or PTX."""
    raw = os.environ.get("REDCOMP_DEBUG")
    return _integer("REDCOMP_DEBUG", raw, 0, 4) if raw else 0


def dump_directory() -> Path | None:
    """REDCOMP_DUMP: where each stage of a compilation is written to a file."""
    return _directory(os.environ.get("REDCOMP_DUMP"))


def override_directory() -> Path | None:
    """REDCOMP_OVERRIDE: where edited stages are read back from."""
    return _directory(os.environ.get("REDCOMP_OVERRIDE"))


def is_watched() -> bool:
    """Whether a setting asks to see, or to edit, the stages of each compilation."""
    return any(os.environ.get(f"REDCOMP_{name}") for name in ("DEBUG", "DUMP", "OVERRIDE"))


def cache_directory() -> Path | None:
    """REDCOMP_CACHE_DIR: the directory of the disk cache; None if switched off or homeless."""
    raw = os.environ.get("REDCOMP_CACHE_DIR")
    if raw is None:
        return default_cache_directory(sys.platform, os.environ)
    return None if raw.strip().lower() in ("", "0", "off") else _directory(raw)


def data_directory() -> Path | None:
    """REDCOMP_DATA_DIR: where this user's signing key is; None if homeless."""
    raw = os.environ.get("REDCOMP_DATA_DIR")
    return _directory(raw) if raw else default_data_directory(sys.platform, os.environ)


def verify() -> bool:
    """REDCOMP_VERIFY: whether the IR is verified after every pass."""
    return _switch("REDCOMP_VERIFY")


def progress() -> bool:
    """REDCOMP_PROGRESS: whether long calls and solves show their progress on standard error."""
    return _switch("REDCOMP_PROGRESS")


def gpu_fallback() -> bool:
    """REDCOMP_GPU_FALLBACK: whether calls for a GPU run on the host where there is no GPU."""
    return _switch("REDCOMP_GPU_FALLBACK")


def target() -> str:
    """REDCOMP_TARGET: the name of a host target; empty for the machine that the process runs on."""
    # Each launch asks.  `os.environ.get` raises two exceptions for what is not set, which takes as
    # long as a third of a small reduction; this is the dictionary that it would look into.
    return os.environ.get("REDCOMP_TARGET", "").strip() if _TARGET in _VALUES else ""


def default_cache_directory(platform: str, environ: Mapping[str, str]) -> Path | None:
    """The platform's place for a user's caches; None if the user has no home directory."""
    return _own_directory(platform, environ, _CACHES)


def default_data_directory(platform: str, environ: Mapping[str, str]) -> Path | None:
    """The platform's place for a user's data; None if the user has no home directory."""
    return _own_directory(platform, environ, _DATA)


# On each platform, the variable that names a folder, and the folder without it.
_CACHES = {
    "win32": ("LOCALAPPDATA", r"~\AppData\Local"),
    "darwin": ("", "~/Library/Caches"),
    "": ("XDG_CACHE_HOME", "~/.cache"),
}
_DATA = {
    "win32": ("APPDATA", r"~\AppData\Roaming"),
    "darwin": ("", "~/Library/Application Support"),
    "": ("XDG_DATA_HOME", "~/.local/share"),
}


def _own_directory(
    platform: str, environ: Mapping[str, str], folders: Mapping[str, tuple[str, str]]
) -> Path | None:
    variable, default = folders.get(platform, folders[""])
    given = environ.get(variable, "")
    # "All paths set in these environment variables must be absolute.  If an implementation
    # encounters a relative path [...] it should [...] ignore it": XDG base directories, 0.8.
    is_taken = given if platform == "win32" else os.path.isabs(given)
    base = given if is_taken else os.path.expanduser(default)
    return None if base.startswith("~") else Path(base, "redcomp")


def _switch(name: str) -> bool:
    raw = os.environ.get(name, "")
    try:
        return SWITCH[raw.strip().lower()]
    except KeyError:
        raise ConfigError(f"{name} must be 0 or 1, not {raw!r}") from None


@functools.lru_cache(maxsize=32)
def _integer(name: str, raw: str, low: int, high: int | None) -> int:
    try:
        value = int(raw)
    except ValueError:
        value = low - 1
    if value < low or (high is not None and value > high):
        expected = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise ConfigError(f"{name} must be an integer {expected}, not {raw!r}")
    return value


@functools.lru_cache(maxsize=32)
def _directory(raw: str | None) -> Path | None:
    """An absolute path, so that a later change of the working directory does not move it."""
    return Path(os.path.abspath(os.path.expanduser(raw))) if raw else None


@functools.cache
def _usable_cpus() -> int:
    """Counted once a process: the call fills a set with every CPU, slow on a large machine."""
    if sys.platform != "win32" and hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


if hasattr(os, "register_at_fork"):
    # Workers of a process pool are often bound to a few CPUs each after the fork.
    os.register_at_fork(after_in_child=_usable_cpus.cache_clear)
