"""Arrays of other libraries than NumPy and PyTorch: read where they are, and made for results.

An array is known by the protocols that it speaks: the buffer protocol, `__array_interface__`,
`__dlpack__` or `__array__`, and on GPUs `__cuda_array_interface__`.  No library is imported for
that: whoever has an array of one has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from redcomp import arguments
from redcomp.errors import ArgumentError

_Array = np.ndarray[Any, np.dtype[Any]]

# What is no array of another library, whatever it offers; most values are told by this.
_KNOWN = (np.ndarray, np.generic, int, float, complex, str, bytes, bytearray, list, tuple, type)
_PROTOCOLS = ("__array_interface__", "__array_struct__", "__dlpack__", "__array__")
_ON_GPU = "__cuda_array_interface__"
# DLPack's numbers of devices whose memory the host reads: the CPU, memory of CUDA and ROCm that is
# pinned, and CUDA's managed memory.
_ON_HOST = (1, 3, 11, 13)
_DEVICES = {2: "a CUDA GPU", 8: "a Metal GPU", 10: "a ROCm GPU", 14: "a oneAPI device"}
# Functions that make an array of one of another library, the best first: DLPack shares memory, but
# knows fewer dtypes; the last is TensorFlow's.
_MAKERS = ("from_dlpack", "asarray", "convert_to_tensor")
# Those by which a module that is no namespace of the array API is known: `asarray` may mean less.
_SURE_MAKERS = ("from_dlpack", "convert_to_tensor")
# Numbers that NumPy has no dtype of its own for; `ml_dtypes` has.
BFLOAT16 = "bfloat16"


class ElsewhereError(ArgumentError):
    """An array whose values the host cannot read, since they are on another device."""


class Library(NamedTuple):
    """An array library that makes arrays of results.

    name    as errors call it
    module  what has its functions
    """

    name: str
    module: Any

    def made(self, result: Any) -> Any:
        """An array of NumPy's or a tensor as one of the library, without a copy where it can.

        Of a tuple or a list, each.  Raises ArgumentError.
        """
        if isinstance(result, (tuple, list)):
            return type(result)(map(self.made, result))
        reasons = []
        for name in _MAKERS:
            make = getattr(self.module, name, None)
            if make is None:
                continue
            try:
                return make(result)
            except Exception as error:  # noqa: BLE001 (whatever the library raises)
                reasons.append(f"{name}: {error}")
        raise ArgumentError(f"{self.name} cannot hold the result: {arguments.shown(reasons)}")


def speaks(value: object) -> bool:
    """Whether a value is an array of another library than NumPy and PyTorch."""
    if isinstance(value, _KNOWN) or is_tensor(value):
        return False
    if any(_offered(value, name) is not None for name in (*_PROTOCOLS, _ON_GPU)):
        return True
    return _has_buffer(value)


def is_tensor(value: object) -> bool:
    """Whether a value is a tensor of PyTorch's; nothing is before PyTorch is imported."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def view(name: str, value: object) -> _Array:
    """What an array of another library holds, as NumPy's; a view of it wherever that is possible.

    Raises ArgumentError, which says `name`, if there are values missing or no numbers, and
    ElsewhereError if the host cannot read them.
    """
    device = device_of(name, value)
    if device is not None:
        raise ElsewhereError(
            f"{name} must be in the host's memory; it is of type {kind_of(value)}, on {device}: "
            "copy it, or import torch and call redcomp.Genred or redcomp.torch, which take it there"
        )
    try:
        is_incomplete = _COLUMNS.get(_package(value), _misses_nothing)(value)
        array = None if is_incomplete else _read(value)
    except Exception as error:  # noqa: BLE001 (whatever the library raises)
        raise ArgumentError(
            f"{name} is of type {kind_of(value)} and cannot be read as an array: {in_short(error)}"
        ) from None
    if array is None:
        raise ArgumentError(
            f"{name} is of type {kind_of(value)} and has missing values: fill them in"
        )
    if array.dtype.kind not in "biufc" and array.dtype.name != BFLOAT16:
        raise ArgumentError(
            f"{name} is of type {kind_of(value)} and holds no numbers: as an array its dtype is "
            f"{array.dtype}"
        )
    return array


def is_elsewhere(value: object) -> bool:
    """Whether a value is an array that the host cannot read."""
    return speaks(value) and device_of("an argument", value) is not None


def device_of(name: str, value: object) -> str | None:
    """Where an array is if the host cannot read it there; raises ArgumentError."""
    if _offered(value, _ON_GPU) is not None:
        return "a GPU"
    ask = _offered(value, "__dlpack_device__")
    if ask is None:
        return None
    try:
        number, _ = ask()
        number = int(number)
    except Exception as error:  # noqa: BLE001 (whatever the library raises)
        raise ArgumentError(
            f"{name} is of type {kind_of(value)} and does not say where it is: {in_short(error)}"
        ) from None
    return None if number in _ON_HOST else _DEVICES.get(number, f"DLPack's device {number}")


def library_of(named: Iterable[tuple[str, object]]) -> Library | None:
    """The library that a result is made for, of arguments with their names in errors.

    It is that of all the arguments that are arrays of a library with functions to make some; None
    if there is no such argument, as for columns of tables.  Raises ArgumentError if there are two.
    """
    found: tuple[str, Library] | None = None
    for name, value in named:
        library = _library(value) if speaks(value) else None
        if library is None:
            continue
        if found is not None and found[1].module is not library.module:
            raise ArgumentError(
                f"{name} is an array of {library.name}, but {found[0]} is one of {found[1].name}: "
                "convert one, so that it is clear what the result is"
            )
        found = found or (name, library)
    return None if found is None else found[1]


def array_like(name: str, value: object, wanted: str) -> object:
    """An array, a number or a list, of which NumPy makes an array; raises ArgumentError.

    Of other things it would fill memory: a range has any length.
    """
    arguments.refuse_masked(name, value)
    if isinstance(value, (list, tuple, int, float, np.ndarray)) or is_tensor(value):
        return value
    if speaks(value):
        return view(name, value)
    if hasattr(value, "__array__"):
        return value
    raise ArgumentError(f"{name} must be {wanted}, not {arguments.shown(value)}")


def kind_of(value: object) -> str:
    """A value's class as errors write it: jax.Array, pandas.Series."""
    kind = type(value)
    package = _package(value)
    return kind.__qualname__ if package == "builtins" else f"{package}.{kind.__qualname__}"


def _read(value: Any) -> _Array:
    if _offered(value, "__array_interface__") is None and _offered(value, "__dlpack__") is not None:
        try:
            return np.from_dlpack(value)
        except Exception:  # DLPack has no word for some dtypes: bfloat16, packed booleans
            if _offered(value, "__array__") is None:
                raise
    return np.asarray(value)


def _library(value: object) -> Library | None:
    package = _package(value)
    if package in _COLUMNS:
        return None
    ask = _offered(value, "__array_namespace__")
    try:
        module = sys.modules.get(package) if ask is None else ask()
    except Exception:  # noqa: BLE001 (whatever the library raises)
        return None
    makers = _SURE_MAKERS if ask is None else _MAKERS
    if module is np or not any(callable(getattr(module, name, None)) for name in makers):
        return None
    return Library(getattr(module, "__name__", package).partition(".")[0], module)


def _package(value: object) -> str:
    """The name of the package that a value's class is from; some classes do not say."""
    return str(getattr(type(value), "__module__", "builtins")).partition(".")[0]


def _offered(value: object, name: str) -> Any:
    """What a value offers by the name of a protocol, or None: its class does, or it has it itself.

    Proxies answer to any name, and offer nothing.
    """
    try:
        if not hasattr(type(value), name) and name not in vars(value):
            return None
        return getattr(value, name, None)
    except Exception:  # noqa: BLE001 (whatever a property raises, it offers nothing)
        return None


def _has_buffer(value: object) -> bool:
    try:
        memoryview(value)  # type: ignore[arg-type]  # what has none raises
    except Exception:  # noqa: BLE001 (whatever its class raises)
        return False
    return True


def in_short(error: Exception) -> str:
    """The first line of another library's error."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


# -- columns of tables, by package: whether values are missing, which would be read as NaN or worse


def _misses_nothing(_: object) -> bool:
    return False


def _misses_in_pandas(value: Any) -> bool:
    columns: Sequence[Any] = [c for _, c in value.items()] if value.ndim == 2 else [value]
    # In NumPy's own dtypes nothing is missing: NaN is a number there, as in an array.
    return any(c.isna().any() for c in columns if not isinstance(c.dtype, np.dtype))


def _misses_in_polars(value: Any) -> bool:
    if hasattr(value, "get_columns"):
        return any(map(_misses_in_polars, value.get_columns()))
    if value.null_count():
        return True
    if hasattr(value.dtype, "fields"):
        return _misses_in_polars(value.struct.unnest())
    return hasattr(value.dtype, "inner") and _misses_in_polars(value.explode())


def _misses_in_pyarrow(value: Any) -> bool:
    return any(getattr(column, "null_count", 0) for column in getattr(value, "columns", [value]))


_COLUMNS: Mapping[str, Callable[[Any], bool]] = {
    "pandas": _misses_in_pandas,
    "polars": _misses_in_polars,
    "pyarrow": _misses_in_pyarrow,
}
