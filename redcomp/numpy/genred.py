"""`Genred` on NumPy arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from redcomp import arguments, foreign
from redcomp.errors import ArgumentError
from redcomp.frontend.reductions.backends import (
    copies_on_gpu,
    device_number,
    falls_back,
    wants_gpu,
)
from redcomp.frontend.reductions.calls import (
    Call,
    check_count,
    check_integers,
    mixed_dtypes,
    prepare,
)
from redcomp.frontend.reductions.genred import GenredBase, Reducer, check_declared, in_order
from redcomp.frontend.reductions.pair_reduction import PairReduction, Parameter, remembered
from redcomp.frontend.reductions.shapes import NUMBERS, Shape, full_shapes, is_numbers, number

if TYPE_CHECKING:
    from redcomp.typing import Backend

__all__ = ["Genred"]

_Array = np.ndarray[Any, np.dtype[Any]]
_PLAIN = {np.ndarray}

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

    @overload
    def __call__(
        self,
        /,
        *args: _Array | float | Sequence[float],
        backend: Backend = "auto",
        device_id: int = -1,
        ranges: Sequence[Any] | None = None,
        out: _Array | None = None,
        **named: _Array | float | Sequence[float],
    ) -> _Array: ...

    @overload
    def __call__(
        self,
        /,
        *args: Any,
        backend: Backend = "auto",
        device_id: int = -1,
        ranges: Sequence[Any] | None = None,
        out: _Array | None = None,
        **named: Any,
    ) -> Any: ...

    def __call__(
        self,
        /,
        *args: Any,
        backend: Backend = "auto",
        device_id: int = -1,
        ranges: Sequence[Any] | None = None,
        out: _Array | None = None,
        **named: Any,
    ) -> Any:
        """Compute the reduction; arguments come in the order of the aliases, or by their names.

        i-variables have shape (M, D), j-variables (N, D), arrays of pairs (M, N, D), parameters
        (D,), with D as declared; all float32, all float64, or all float16 or bfloat16 of ml_dtypes
        (computed in float32).
        The last axis of variables of dimension 1 may be missing, parameters may have shape (1, D)
        or (D, 1), and a Pm may be a number or a list of numbers, which take the dtype of the other
        arguments.  Integers may have any integer dtype or be booleans; if all arguments are
        integers, the computation is in float64.  Any strides and byte order are accepted.

        The result has shape (M, E) for axis=1 or (N, E) for axis=0, where E is the dimension of the
        formula.  `redcomp.reductions()` says what other reductions than sums return; several
        results are a tuple.  If M or N is 0, the result is empty, or the neutral element of the
        reduction.  Arrays of other libraries (CuPy, JAX, TensorFlow and others) give a result of
        that library, and columns of tables (pandas, polars, PyArrow) a NumPy array.

        A batch: any argument may have further axes in front, which broadcast as in NumPy; the
        result has all of them, and indices count within an entry of the batch.

        backend    "auto" and "CPU" compute on the host; "GPU" (or KeOps' names "GPU_1D", "GPU_2D"
                   and so on) copies the arrays to an NVIDIA GPU and the result back
        device_id  the number of the GPU; the first one by default
        ranges     six integer arrays that name the blocks of pairs to visit, the same for each
                   entry of a batch; `redcomp.numpy.cluster.from_matrix` makes them.  Rows
                   without pairs get the neutral element of the reduction
        out        an array of the result's shape and dtype, which is filled and returned

        Raises ArgumentError (a ValueError) that names the argument, and DeviceError (a
        RuntimeError) if there is no GPU, or if it fails.  If there is none and the setting
        REDCOMP_GPU_FALLBACK is 1, the call runs on the host, after one warning.
        """
        if named:
            args = in_order(self, self.positions, args, named)
        return call(
            self.reducer, *args, backend=backend, device_id=device_id, ranges=ranges, out=out
        )


def call(
    genred: Reducer,
    *args: _Array | float | Sequence[float],
    backend: str = "auto",
    device_id: int = -1,
    ranges: Sequence[Any] | None = None,
    out: _Array | None = None,
) -> Any:
    """What `Genred` does when it is called with arrays."""
    is_on_gpu, device_id = wants_gpu(backend) and not falls_back(), device_number(device_id)
    executor = copies_on_gpu(backend, device_id) if is_on_gpu else None
    reduction = genred.reduction
    check_count(reduction, args)
    given: Any = args
    if {*map(type, args)} != _PLAIN:
        given, library = as_arrays(reduction, args)
        if library is not None:
            options: Any = {"device_id": device_id, "ranges": ranges, "out": out}
            found = call(genred, *given, backend=backend, **options)
            return library.made(found) if out is None else found
    described = tuple([(a.dtype, a.shape) for a in given])
    prepared = _prepare(reduction, described, genred.declared, is_on_gpu)
    launch = prepared.call
    blocks = launch.blocks(None if ranges is None else launch.ranges(ranges))
    arrays = _as_read(reduction, prepared, given)
    results = [np.empty(shape, dtype) for shape, dtype in prepared.results]
    if blocks.covered < launch.size.rows:
        for result, description in zip(results, reduction.results, strict=True):
            result[:] = description.empty
    launch.launch(blocks, _addresses(results), _addresses(arrays), executor)
    if genred.is_plain and prepared.is_whole:
        arranged: Any = results[0]
    else:
        stored = genred.stored_dtype(prepared.dtype)
        kept = [
            _stored(array, result.kind, stored)
            for array, result in zip(results, reduction.results, strict=True)
        ]
        arranged = genred.nested(genred.joined(kept, lambda parts: np.stack(parts, axis=-1)))
    return arranged if out is None else filled(out, arranged)


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """What is known of a call before its arrays are.

    dtype      the arguments' common one, "f16", "bf16", "f32" or "f64"
    is_whole   whether it is computed in that dtype
    is_native  for each argument, whether the kernel reads numbers of its dtype
    results    shape and dtype of each
    """

    call: Call
    dtype: str
    is_whole: bool
    is_native: tuple[bool, ...]
    results: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]


@remembered
def _prepare(
    reduction: PairReduction,
    described: tuple[tuple[np.dtype[Any], Shape], ...],
    declared: str | None,
    is_on_gpu: bool,
) -> _Prepared:
    """The call with arguments of these dtypes and shapes; checks them, but for integers' dtypes.

    Only GPUs have products that know how arrays are stored.
    """
    dtypes = [dtype for dtype, _ in described]
    dtype = _dtype(reduction, described)
    check_declared(declared, _STORED[dtype], reduction, ".astype(np.{})")
    computed, width, is_whole = _COMPUTED[dtype]
    stored = reduction.stored_as(dtype) if is_on_gpu else reduction
    call = prepare(stored, width, full_shapes(reduction, tuple([s for _, s in described])))
    native, integers = np.dtype(computed), np.dtype(_INTEGERS[width])
    return _Prepared(
        call,
        dtype,
        is_whole,
        tuple(
            given.isnative and given == (integers if parameter.is_integer else native)
            for given, parameter in zip(dtypes, reduction.parameters, strict=True)
        ),
        tuple(
            (shape, np.dtype(np.int64) if result.kind == "index" else native)
            for shape, result in zip(call.results, reduction.results, strict=True)
        ),
    )


def _as_read(
    reduction: PairReduction, prepared: _Prepared, given: Sequence[_Array]
) -> list[_Array]:
    """The arguments as the kernel reads them."""
    arrays = []
    for array, is_native, parameter in zip(
        given, prepared.is_native, reduction.parameters, strict=True
    ):
        flags = array.flags
        is_plain = is_native and flags.c_contiguous and flags.aligned
        arrays.append(array if is_plain else _packed(array, parameter, prepared.call.dtype))
    return arrays


def _addresses(arrays: Sequence[_Array]) -> list[int]:
    """Where contiguous arrays' data are; through their buffers, where that is possible, because an
    array itself takes four times as long to tell."""
    addresses = []
    for array in arrays:
        if array.size and array.flags.writeable:
            addresses.append(ctypes.addressof(ctypes.c_char.from_buffer(array.data)))
        else:
            addresses.append(array.__array_interface__["data"][0])
    return addresses


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
        raise ArgumentError("out is for one result, and this reduction has several: leave it out")
    if not isinstance(out, np.ndarray):
        raise ArgumentError(f"out must be a NumPy array; it is of type {type(out).__name__}")
    arguments.refuse_masked("out", out)
    if out.shape != result.shape or out.dtype != result.dtype:
        raise ArgumentError(
            f"out must have shape {result.shape} and dtype {result.dtype}; "
            f"it has shape {out.shape} and dtype {out.dtype}"
        )
    if not out.flags.writeable:
        raise ArgumentError("out cannot be written to: give an array that is not read-only")
    out[...] = result
    return out


def _dtype(reduction: PairReduction, described: Sequence[tuple[np.dtype[Any], Shape]]) -> str:
    """The common dtype of the arguments that are no integers; checks them all.

    A parameter without axes is a number, which has whatever dtype the others have.
    """
    if not described:
        raise ArgumentError(
            "the formula has no variables: a call needs an argument, which says its dtype"
        )
    first: tuple[str, Parameter, np.dtype[Any]] | None = None
    numbers = []
    for parameter, (dtype, shape) in zip(reduction.parameters, described, strict=True):
        if parameter.is_integer:
            continue
        if takes_others(parameter, shape, dtype):
            numbers.append(dtype)
            continue
        name = _name_of(dtype, parameter)
        first = first or (name, parameter, dtype)
        if name != first[0]:
            given, other = (parameter.name, dtype), (first[1].name, first[2])
            raise mixed_dtypes(given, other, lambda dtype: f".astype(np.{dtype})")
    found = [_FLOATS[own] for dtype in numbers if (own := dtype.newbyteorder("=")) in _FLOATS]
    # NumPy's float for integers is float64.
    return first[0] if first is not None else found[0] if found else "f64"


def takes_others(parameter: Parameter, shape: Shape, dtype: np.dtype[Any]) -> bool:
    """Whether an argument is a number, which is converted to the dtype of the others."""
    is_real = dtype.kind in "iuf"
    return parameter.kind == "parameter" and not (shape or parameter.is_integer) and is_real


def _name_of(dtype: np.dtype[Any], parameter: Parameter) -> str:
    """The name of a float dtype; raises ArgumentError for any other one."""
    # Byte-swapped floats are fine.
    is_bfloat16 = dtype.name == foreign.BFLOAT16
    name: str | None = "bf16" if is_bfloat16 else _FLOATS.get(dtype.newbyteorder("="))
    if name is not None:
        return name
    hint = "convert it with .astype(np.float32)"
    if dtype.kind in "biu":
        hint += ", or say that it is of integers: its alias takes a last argument, as in Vi(1, int)"
    if dtype.kind == "c":
        hint = "redcomp.numpy.LazyTensor takes complex numbers"
    raise ArgumentError(
        f"argument {parameter.name!r} has dtype {dtype}; expected float16, float32 or float64: "
        f"{hint}"
    )


def as_arrays(
    reduction: PairReduction, args: Sequence[object]
) -> tuple[list[_Array], foreign.Library | None]:
    """The arguments as arrays, and the library that the result is for, unless it is NumPy.

    Numbers get the dtype of the others.
    """
    floats = (
        a.dtype
        for a in args
        if isinstance(a, np.ndarray)
        and a.ndim
        and (a.dtype.kind == "f" or a.dtype.name == foreign.BFLOAT16)
    )
    dtype = next(floats, np.dtype(np.float64))
    others: list[str] = []
    arrays = [
        _number(value, parameter, dtype)
        if isinstance(value, NUMBERS) or is_numbers(parameter, value)
        else _as_array(value, parameter.name, others)
        for value, parameter in zip(args, reduction.parameters, strict=True)
    ]
    return _with_others(reduction, args, arrays) if others else (arrays, None)


def _with_others(
    reduction: PairReduction, args: Sequence[object], arrays: Sequence[_Array]
) -> tuple[list[_Array], foreign.Library | None]:
    """`as_arrays`, some arguments being of other libraries; `arrays` are views of all."""
    parameters = reduction.parameters
    given = zip(parameters, args, arrays, strict=True)
    views = [v if isinstance(v, NUMBERS) or is_numbers(p, v) else a for p, v, a in given]
    named = [(f"argument {p.name!r}", v) for p, v in zip(parameters, args, strict=True)]
    return as_arrays(reduction, views)[0], foreign.library_of(named)


def _number(value: Any, parameter: Parameter, dtype: np.dtype[Any]) -> _Array:
    largest = float(np.finfo(dtype).max) if dtype.kind == "f" else _LARGEST_BFLOAT16
    made = number(parameter, value, largest)
    return np.asarray(made, np.int64 if parameter.is_integer else dtype)


def _as_array(value: object, name: str, others: list[str]) -> _Array:
    """Subclasses of arrays are taken, and arrays of other libraries, whose names `others` gets.

    Lists of rows are not, since their dtype would be a guess.
    """
    arguments.refuse_masked(f"argument {name!r}", value)
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if foreign.speaks(value):
        others.append(name)
        return foreign.view(f"argument {name!r}", value)
    kind, hint = foreign.kind_of(value), ""
    if foreign.is_tensor(value):
        hint = ": use redcomp.torch for tensors, or convert it with .detach().cpu().numpy()"
    elif isinstance(value, (list, tuple)):
        hint = ": convert it with np.asarray(..., dtype=np.float32)"
    elif hasattr(value, "toarray"):
        hint = ": a sparse matrix has to be made dense, with .toarray()"
    raise ArgumentError(f"argument {name!r} must be a NumPy array; it is of type {kind}{hint}")


def _packed(array: _Array, parameter: Parameter, dtype: str) -> _Array:
    """An argument as a kernel of dtype "f32" or "f64" reads it."""
    if not parameter.is_integer:
        return np.ascontiguousarray(array, dtype=_COMPUTED[dtype][0])
    if array.dtype.kind not in "biu":
        raise ArgumentError(
            f"argument {parameter.name!r} has dtype {array.dtype}; its alias says integers: "
            "convert it with .astype(np.int64)"
        )
    if array.size and not np.can_cast(array.dtype, _INTEGERS[dtype]):
        check_integers(parameter, int(array.min()), int(array.max()), dtype)
    return np.ascontiguousarray(array, dtype=_INTEGERS[dtype])
