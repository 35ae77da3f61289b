"""`Genred` on NumPy arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from redcomp import arguments, foreign
from redcomp.errors import ArgumentError
from redcomp.frontend.reductions.backends import (
    copies_on_gpu,
    device_number,
    falls_back,
    wants_gpu,
)
from redcomp.frontend.reductions.calls import check_count, check_integers
from redcomp.frontend.reductions.genred import GenredBase, Reducer
from redcomp.frontend.reductions.pair_reduction import PairReduction, Parameter
from redcomp.frontend.reductions.shapes import NUMBERS, number, prepare_read

__all__ = ["Genred"]

_Array = np.ndarray[Any, np.dtype[Any]]
_PLAIN = {np.ndarray}

# dtypes by identity first: the native ones are singletons, and `np.dtype.__eq__` is slow.
_FLOATS = {
    np.dtype(np.float32): "f32",
    np.dtype(np.float64): "f64",
    np.dtype(np.float16): "f16",
}
# What a dtype is computed in, the name of that, and whether this is it: half precision is for
# storage.
_COMPUTED: dict[str, tuple[type[np.generic], str, bool]] = {
    "f16": (np.float32, "f32", False),
    "bf16": (np.float32, "f32", False),
    "f32": (np.float32, "f32", True),
    "f64": (np.float64, "f64", True),
}
_INTEGERS: dict[str, type[np.generic]] = {"f32": np.int32, "f64": np.int64}
_STORED = {"f16": "float16", "bf16": foreign.BFLOAT16, "f32": "float32", "f64": "float64"}
_LARGEST_BFLOAT16 = 2.0**127 * (2 - 2**-7)


class Genred(GenredBase):
    __doc__ = GenredBase.__doc__

    def __call__(
        self,
        *args: _Array | float,
        backend: str = "auto",
        device_id: int = -1,
        ranges: Sequence[Any] | None = None,
        out: _Array | None = None,
    ) -> Any:
        """Compute the reduction.

        i-variables have shape (M, D), j-variables (N, D), arrays of pairs (M, N, D), parameters
        (D,), with D as declared; all float32, all float64, or all float16 or bfloat16 of ml_dtypes
        (computed in float32).
        Variables of dimension 1 may lack the last axis, parameters may have shape (1, D) or (D, 1),
        and a Pm(1) may be a number (see docs/formulas.md).
        Integers may have any integer dtype or be truth values, and without other arguments the
        computation is in float64.  Any strides and byte order are accepted.  The result has shape
        (M, E) for axis=1 or (N, E) for axis=0, E being the formula's dimension (see
        docs/formulas.md for other reductions than sums).  With M or N = 0 it is empty, or the
        reduction's neutral element.  `out`, an array of the result's shape and dtype, is filled and
        returned.

        Arrays of other libraries give a result of theirs, and columns of tables one of NumPy's; see
        docs/arrays.md.

        A batch: any argument may have further dimensions before these, which broadcast as NumPy's
        do; the result has them all, and an index counts within its entry of the batch.

        ranges: six integer arrays that name the blocks of pairs to visit (see
        `redcomp.frontend.reductions.ranges`), the same ones for each entry of a batch.  Rows
        without any pair get the reduction's neutral element.

        backend: "auto" and "CPU" compute on the host; "GPU" (or "GPU_1D", "GPU_2D", and so on, as
        KeOps calls its own) computes with copies of the arrays on an NVIDIA GPU, number `device_id`
        or else the first one.

        Raises ArgumentError (a ValueError) that names the argument, and DeviceError (a
        RuntimeError) where there is no GPU, or where it fails.  Where there is none and the setting
        REDCOMP_GPU_FALLBACK is 1, calls for a GPU run on the host, after one warning.
        """
        return call(self, *args, backend=backend, device_id=device_id, ranges=ranges, out=out)


def call(
    genred: Reducer,
    *args: _Array | float,
    backend: str = "auto",
    device_id: int = -1,
    ranges: Sequence[Any] | None = None,
    out: _Array | None = None,
) -> Any:
    """What `Genred` does when it is called with arrays."""
    is_on_gpu, device_id = wants_gpu(backend) and not falls_back(), device_number(device_id)
    executor = copies_on_gpu(backend, device_id) if is_on_gpu else None
    reduction = genred.reduction
    check_count(reduction, len(args))
    given: Any = args
    if {*map(type, args)} != _PLAIN:
        given, library = as_arrays(reduction, args)
        if library is not None:
            options: Any = {"device_id": device_id, "ranges": ranges, "out": out}
            found = call(genred, *given, backend=backend, **options)
            return library.made(found) if out is None else found
    dtype = _dtype(reduction, given)
    native, width, is_whole = _COMPUTED[dtype]
    prepared = prepare_read(reduction, width, tuple([a.shape for a in given]))
    blocks = prepared.blocks(None if ranges is None else prepared.ranges(ranges))
    arrays = [
        a
        if a.dtype == native and not parameter.is_integer and _is_plain(a)
        else _packed(a, parameter, width)
        for a, parameter in zip(given, reduction.parameters, strict=True)
    ]
    results = [
        np.empty(shape, np.int64 if result.kind == "index" else native)
        for shape, result in zip(prepared.results, reduction.results, strict=True)
    ]
    if blocks.covered < prepared.size.rows:
        for result, description in zip(results, reduction.results, strict=True):
            result[:] = description.empty
    addresses, targets = list(map(_address, arrays)), list(map(_address, results))
    prepared.launch(blocks, targets, addresses, executor)
    if genred.is_plain and is_whole:
        arranged: Any = results[0]
    else:
        stored = genred.stored_dtype(dtype)
        arranged = genred.arranged(
            [
                _stored(array, result.kind, stored)
                for array, result in zip(results, reduction.results, strict=True)
            ],
            lambda parts: np.stack(parts, axis=-1),
        )
    return arranged if out is None else filled(out, arranged)


def _address(array: _Array) -> int:
    """Where a contiguous array's data are; through its buffer, where that is possible, because the
    array itself takes four times as long to tell."""
    if array.size and array.flags.writeable:
        return ctypes.addressof(ctypes.c_char.from_buffer(array.data))
    address: int = array.__array_interface__["data"][0]
    return address


def _stored(array: _Array, kind: str, dtype: str) -> _Array:
    """A kernel's result in the dtype that the caller gets."""
    if kind == "truth":
        return np.not_equal(array, 0)
    if kind == "index":
        return array
    with np.errstate(over="ignore"):  # in half precision, what is too large is infinite
        return array.astype(_STORED[dtype], copy=False)


def filled(out: object, result: Any) -> _Array:
    """`out` with the result in it."""
    if isinstance(result, tuple):
        raise ArgumentError("out is for one result, and this reduction has several")
    if not isinstance(out, np.ndarray):
        raise ArgumentError(f"out must be a NumPy array; it is of type {type(out).__name__}")
    arguments.refuse_masked("out", out)
    if out.shape != result.shape or out.dtype != result.dtype:
        raise ArgumentError(
            f"out must have shape {result.shape} and dtype {result.dtype}; "
            f"it has shape {out.shape} and dtype {out.dtype}"
        )
    if not out.flags.writeable:
        raise ArgumentError("out cannot be written to")
    out[...] = result
    return out


def _dtype(reduction: PairReduction, arrays: Sequence[_Array]) -> str:
    """The common dtype of the arguments that are no integers."""
    found = {
        a.dtype
        for a, parameter in zip(arrays, reduction.parameters, strict=True)
        if not parameter.is_integer
    }
    if len(found) == 1:
        name = _FLOATS.get(next(iter(found)))
        if name is not None:
            return name
    return _unusual_dtype(reduction, arrays)


def _unusual_dtype(reduction: PairReduction, arrays: Sequence[_Array]) -> str:
    """Byte-swapped floats are fine, and bfloat16; mixed or other dtypes are errors."""
    first: tuple[str, Parameter, _Array] | None = None
    for parameter, array in zip(reduction.parameters, arrays, strict=True):
        if parameter.is_integer:
            continue
        is_bfloat16 = array.dtype.name == foreign.BFLOAT16
        name = "bf16" if is_bfloat16 else _FLOATS.get(array.dtype.newbyteorder("="))
        if name is None:
            raise ArgumentError(
                f"argument {parameter.name!r} has dtype {array.dtype}; "
                "expected float16, float32 or float64"
            )
        first = first or (name, parameter, array)
        if name != first[0]:
            raise ArgumentError(
                f"argument {parameter.name!r} has dtype {array.dtype}, but "
                f"{first[1].name!r} has {first[2].dtype}: all arguments must have the same"
            )
    if not arrays:
        raise ArgumentError("a formula without variables has no dtype")
    return "f64" if first is None else first[0]  # NumPy's float for integers


def as_arrays(
    reduction: PairReduction, args: Sequence[object]
) -> tuple[list[_Array], foreign.Library | None]:
    """The arguments as arrays, and the library that the result is for, unless it is NumPy.

    Numbers get the dtype of the others.
    """
    floats = (
        a.dtype
        for a in args
        if isinstance(a, np.ndarray) and (a.dtype.kind == "f" or a.dtype.name == foreign.BFLOAT16)
    )
    dtype = next(floats, np.dtype(np.float64))
    others: list[str] = []
    arrays = [
        _number(value, parameter, dtype)
        if isinstance(value, NUMBERS)
        else _as_array(value, parameter.name, others)
        for value, parameter in zip(args, reduction.parameters, strict=True)
    ]
    return _with_others(reduction, args, arrays) if others else (arrays, None)


def _with_others(
    reduction: PairReduction, args: Sequence[object], arrays: Sequence[_Array]
) -> tuple[list[_Array], foreign.Library | None]:
    """`as_arrays`, some arguments being of other libraries; `arrays` are views of all."""
    views = [v if isinstance(v, NUMBERS) else a for v, a in zip(args, arrays, strict=True)]
    named = [(f"argument {p.name!r}", v) for p, v in zip(reduction.parameters, args, strict=True)]
    return as_arrays(reduction, views)[0], foreign.library_of(named)


def _number(value: Any, parameter: Parameter, dtype: np.dtype[Any]) -> _Array:
    largest = float(np.finfo(dtype).max) if dtype.kind == "f" else _LARGEST_BFLOAT16
    made = number(parameter, value, largest)
    return np.asarray(made, np.int64 if parameter.is_integer else dtype)


def _as_array(value: object, name: str, others: list[str]) -> _Array:
    """Subclasses of arrays are taken, and arrays of other libraries, whose names `others` gets.

    Lists are not, since their dtype would be a guess.
    """
    arguments.refuse_masked(f"argument {name!r}", value)
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if foreign.speaks(value):
        others.append(name)
        return foreign.view(f"argument {name!r}", value)
    kind = foreign.kind_of(value)
    raise ArgumentError(f"argument {name!r} must be a NumPy array; it is of type {kind}")


def _is_plain(array: _Array) -> bool:
    """Whether machine code can read the array as it is."""
    return bool(array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative)


def _packed(array: _Array, parameter: Parameter, dtype: str) -> _Array:
    """An argument as a kernel of dtype "f32" or "f64" reads it."""
    if not parameter.is_integer:
        return np.ascontiguousarray(array, dtype=_COMPUTED[dtype][0])
    if array.dtype.kind not in "biu":
        raise ArgumentError(
            f"argument {parameter.name!r} has dtype {array.dtype}; its alias says integers"
        )
    if array.size and not np.can_cast(array.dtype, _INTEGERS[dtype]):
        check_integers(parameter, int(array.min()), int(array.max()), dtype)
    return np.ascontiguousarray(array, dtype=_INTEGERS[dtype])
