"""NumPy's and PyTorch's own functions of LazyTensors: `np.exp(K)`, `array * K`, `torch.sum(K, 1)`.

Both libraries ask a class what their functions are of its objects.  Each function is a row here:
the method that it is, and its parameters.  Functions without a row raise a TypeError.  PyTorch is
not imported: its functions are known by their names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

from redcomp.errors import ArgumentError
from redcomp.frontend.lazy.core import LazyCore
from redcomp.frontend.lazy.matrix import Matrix
from redcomp.frontend.lazy.missing import ADVICE
from redcomp.frontend.lazy.reductions import Reductions
from redcomp.tracing import constant_in_graphs

P = TypeVar("P", bound="Protocols")


class Function(NamedTuple):
    """A function of an array library.

    method      the name of a method of its first argument, which becomes a LazyTensor, or what gets
                that and the other arguments
    parameters  the function's, and what they are called here; the first argument first
    is_raw      whether the first argument stays what it is
    """

    method: str | Callable[..., Any]
    parameters: Mapping[str, str]
    is_raw: bool = False


def _function(method: str | Callable[..., Any], parameters: str) -> Function:
    """A row: `parameters` are the function's, or "function's:method's"."""
    pairs = [p.partition(":") for p in parameters.split()]
    names = {theirs: ours or theirs for theirs, _, ours in pairs}
    return Function(method, names, method in _RAW)


def _same(names: str, parameters: str) -> dict[str, Function]:
    """Functions that have the name of the method."""
    return {name: _function(name, parameters) for name in names.split()}


# -- functions that are no single method -----------------------------------------------------------


def _matmul(a: Any, b: Any) -> Any:
    # By its name: a tracer of `K @ b` calls this, and would meet itself.
    left: Any = a
    return left.__matmul__(b) if isinstance(a, Matrix) else b.__rmatmul__(a)


def _rmatmul(b: Any, a: Any) -> Any:
    return _matmul(a, b)


def _concatenate(tensors: Sequence[Any], axis: Any) -> Any:
    lazy = next(tensor for tensor in tensors if isinstance(tensor, Reductions))
    return lazy.concatenate(tensors, axis)


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdim: bool = False) -> Any:
    if not (ord is None or ord == 2 or ord == "fro"):
        raise ArgumentError(f"the norm of a LazyTensor is the Euclidean one, not {ord!r}")
    return x.norm(axis, keepdim=keepdim)


def _round(x: Any, decimals: int = 0) -> Any:
    power = 10**decimals
    return (x * power).rint() / power if decimals else x.rint()


def _clip(x: Any, min: Any = None, max: Any = None) -> Any:
    """As `clamp`, but max where min is larger."""
    if min is None or max is None or (_is_number(min) and _is_number(max) and min <= max):
        return x.clamp(min, max)
    return x.maximum(min).minimum(max)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _extremum(pairs: str, elementwise: str) -> Callable[..., Any]:
    def extremum(x: Any, axis: Any, keepdim: bool = False) -> Any:
        if isinstance(axis, (LazyCore, x.library.array_class)):
            return getattr(x, elementwise)(axis)
        return getattr(x, pairs)(axis, keepdim=keepdim)

    return extremum


def _where_of_method(a: Any, condition: Any, b: Any) -> Any:
    lazy = next(value for value in (a, condition, b) if isinstance(value, Reductions))
    return lazy._taken(condition).where(a, b)


def _scaled(method: str) -> Callable[..., Any]:
    """A sum or difference, the second operand times alpha."""

    def scaled(x: Any, other: Any, alpha: Any = 1) -> Any:
        return getattr(x, method)(
            other if _is_number(alpha) and alpha == 1 else x._taken(other) * alpha
        )

    return scaled


def _divide(x: Any, other: Any, rounding_mode: str | None = None) -> Any:
    quotient = x.divide(other)
    return quotient if rounding_mode is None else getattr(quotient, rounding_mode)()


def _spread(method: str) -> Callable[..., Any]:
    """PyTorch's var or std, whose second or third argument may be `unbiased`."""

    def spread(x: Any, axis: Any, unbiased: Any = None, **options: Any) -> Any:
        return getattr(x, method)(axis, unbiased=unbiased, **options)

    return spread


def _normalize(x: Any, p: float = 2, axis: Any = 1, eps: float = 1e-12) -> Any:
    if p != 2:
        raise ArgumentError(f"the norm of a LazyTensor is the Euclidean one, not {p!r}")
    return x / x.norm(axis).maximum(eps)


def _transpose(x: Any, axes: Any = None) -> Any:
    if axes is not None or x.ndim != 1:
        raise ArgumentError("only a matrix can be transposed, and without axes")
    return x.t()


_RAW = (_matmul, _rmatmul, _concatenate, _where_of_method)

# -- the rows --------------------------------------------------------------------------------------

_UNARY = (
    "exp exp2 expm1 log log2 log10 log1p sqrt square sin cos tan sinh cosh tanh arcsin arccos "
    "arctan sinc sign absolute abs floor ceil trunc fix negative positive reciprocal logical_not "
    "sigmoid erf erfc expit relu rsqrt softplus"
)
_BINARY = (
    "add subtract multiply divide true_divide power floor_divide arctan2 minimum maximum "
    "not_equal less less_equal greater greater_equal logical_and logical_or vecdot"
)
_BOTH: Mapping[str, Function] = {
    **_same(_UNARY, "x"),
    **_same(_BINARY, "x other"),
    "pow": _function("power", "x exponent:other"),
    "remainder": _function("mod", "x other:modulus"),
    "bitwise_or": _function("scalprod", "x other"),
    "matmul": _function(_matmul, "a b"),
    "where": _function("where", "condition x:a y:b"),
    "clip": _function(_clip, "x min max"),
    "trace": _function("trace", "x"),
    **_same("conj conjugate angle", "x"),
    "real": _function(lambda x: x.real, "x"),
    "imag": _function(lambda x: x.imag, "x"),
    "diagonal": _function("diagonal", "x"),
}
_NUMPY_REDUCTIONS = "a axis dtype out keepdims:keepdim"
NUMPY: Mapping[str, Function] = {
    **_BOTH,
    **_same("cbrt fabs rint", "x"),
    "mod": _function("mod", "x other:modulus"),
    "equal": _function("equal", "x other"),
    "float_power": _function("power", "x other"),
    "clip": _function(_clip, "a a_min:min a_max:max out min max"),
    "round": _function(_round, "a decimals"),
    "around": _function(_round, "a decimals"),
    "concatenate": _function(_concatenate, "tensors axis"),
    "concat": _function(_concatenate, "tensors axis"),
    "linalg.norm": _function(_norm, "x ord axis keepdims:keepdim"),
    "linalg.vector_norm": _function(_norm, "x axis keepdims:keepdim ord"),
    "dot": _function(_matmul, "a b"),
    "linalg.matmul": _function(_matmul, "a b"),
    "linalg.vecdot": _function("vecdot", "x other"),
    "transpose": _function(_transpose, "a axes"),
    "shape": _function(lambda a: a.shape, "a"),
    **_same("sum prod mean", _NUMPY_REDUCTIONS),
    **_same("max amax min amin any all", "a axis out keepdims:keepdim"),
    **_same("argmax argmin", "a axis out keepdims:keepdim"),
    **_same("var std", "a axis dtype out ddof keepdims:keepdim correction"),
}
# What `ufunc.reduce` is.
NUMPY_REDUCE: Mapping[str, str] = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "logical_or": "any",
    "logical_and": "all",
}
_OF_TORCH = "input dim:axis keepdim"
TORCH: Mapping[str, Function] = {
    **_BOTH,
    **_same("asin acos atan sgn neg", "input"),
    **_same("atan2 eq ne lt le gt ge mul dot", "input other"),
    **_same(_UNARY, "input"),
    **_same(_BINARY, "input other"),
    "add": _function(_scaled("add"), "input other alpha"),
    "sub": _function(_scaled("subtract"), "input other alpha"),
    "subtract": _function(_scaled("subtract"), "input other alpha"),
    "rsub": _function(lambda x, other: other - x, "input other"),
    "__rsub__": _function(lambda x, other: other - x, "input other"),
    "div": _function(_divide, "input other rounding_mode"),
    "divide": _function(_divide, "input other rounding_mode"),
    "true_divide": _function("divide", "input other"),
    "__rdiv__": _function(lambda x, other: other / x, "input other"),
    "__rtruediv__": _function(lambda x, other: other / x, "input other"),
    "__floordiv__": _function("floor_divide", "input other"),
    "__rfloordiv__": _function(lambda x, other: other // x, "input other"),
    "__rpow__": _function(lambda x, other: other**x, "input other"),
    "__rmod__": _function(lambda x, other: other % x, "input other"),
    "__rmatmul__": _function(_rmatmul, "input other:a"),
    "__or__": _function("scalprod", "input other"),
    "pow": _function("power", "input exponent:other"),
    "Tensor.where": _function(_where_of_method, "self:a condition other:b"),
    "where": _function("where", "condition input:a other:b"),
    "clamp": _function(_clip, "input min max"),
    "clip": _function(_clip, "input min max"),
    "clamp_min": _function("maximum", "input min:other"),
    "clamp_max": _function("minimum", "input max:other"),
    "round": _function(_round, "input decimals"),
    "cat": _function(_concatenate, "tensors dim:axis"),
    "concat": _function(_concatenate, "tensors dim:axis"),
    "concatenate": _function(_concatenate, "tensors dim:axis"),
    "mm": _function(_matmul, "input mat2:b"),
    "mv": _function(_matmul, "input vec:b"),
    "t": _function("t", "input"),
    **_same("sum prod mean any all amax amin argmax argmin logsumexp", _OF_TORCH),
    **_same("softmax log_softmax", "input dim:axis"),
    "max": _function(_extremum("max_argmax", "maximum"), "input dim:axis keepdim"),
    "min": _function(_extremum("min_argmin", "minimum"), "input dim:axis keepdim"),
    "var": _function(_spread("var"), "input dim:axis unbiased keepdim correction"),
    "std": _function(_spread("std"), "input dim:axis unbiased keepdim correction"),
    "topk": _function("topk", "input k dim:axis largest sorted"),
    "norm": _function(_norm, "input p:ord dim:axis keepdim"),
    "linalg_norm": _function(_norm, "input ord dim:axis keepdim"),
    "linalg_vector_norm": _function(_norm, "input ord dim:axis keepdim"),
    "linalg_vecdot": _function("vecdot", "input other"),
    "linalg_matmul": _function(_matmul, "input other:b"),
    "normalize": _function(_normalize, "input p dim:axis eps"),
}
# What says nothing: what functions that are written in Python pass where one gives nothing.
_SAYS_NOTHING: Mapping[str, Any] = {"inplace": False, "dtype": None, "out": None}
_UNSEEN = ("_stacklevel",)


def _bound(name: str, row: Function, args: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
    """The first argument, and the others by their names here; raises TypeError."""
    if len(args) > len(row.parameters):
        raise TypeError(f"{name} of a LazyTensor takes {', '.join(row.parameters)} only")
    given = dict(zip(row.parameters, args, strict=False))
    for key, value in named.items():
        if key in row.parameters and key not in given:
            given[key] = value
        elif key not in _UNSEEN and not (key in _SAYS_NOTHING and value is _SAYS_NOTHING[key]):
            raise TypeError(f"{name} of a LazyTensor takes no {key}={value!r}")
    first = next(iter(row.parameters))
    if first not in given:
        raise TypeError(f"{name} is called without its argument {first}")
    ours = {row.parameters[key]: value for key, value in given.items() if value is not None}
    for key in ("dtype", "out"):
        if key in ours:
            raise TypeError(f"{name} of a LazyTensor takes no {key}")
    if "axis" in row.parameters.values():
        axis = ours.setdefault("axis", None)
        ours["axis"] = axis[0] if isinstance(axis, (tuple, list)) and len(axis) == 1 else axis
    return [ours.pop(row.parameters[first]), ours]


def _refused(name: str) -> NoReturn:
    advice = ADVICE.get(name.rpartition(".")[2]) or (
        ".dense() gives the array, and help(redcomp.numpy.LazyTensor) lists the methods"
    )
    raise TypeError(f"{name} is not supported for a LazyTensor: {advice}")


@constant_in_graphs
def _name_in_torch(function: Any) -> str:
    """The name of a function of PyTorch's, or of a tensor's method, in the table."""
    name: str = function.__name__.removeprefix("special_")
    if hasattr(function, "__objclass__") and f"Tensor.{name}" in TORCH:
        name = f"Tensor.{name}"
    if name not in TORCH:
        _refused(f"torch.{name}")
    return name


def product_in_torch(
    function: Any, inputs: Sequence[Any], named: Mapping[str, Any], what: str
) -> Any:
    """A product that a function of PyTorch's is; raises TypeError, about `what`, for others."""
    name = _name_in_torch(function)
    row = TORCH[name]
    if row.method not in (_matmul, _rmatmul):
        raise TypeError(f"torch.{name} is not supported for a {what}, which is only multiplied")
    first, others = _bound(f"torch.{name}", row, inputs, named)
    return row.method(first, **others)


class Protocols(Reductions):
    """LazyTensors as arguments of array libraries' functions."""

    __slots__ = ()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **named: Any) -> Any:
        name = ufunc.__name__
        if method == "reduce" and name in NUMPY_REDUCE:
            named = {"axis": 0, **named}
            return self._called(f"numpy.{name}.reduce", NUMPY[NUMPY_REDUCE[name]], inputs, named)
        if method != "__call__" or name not in NUMPY:
            _refused(f"numpy.{name}" + ("" if method == "__call__" else f".{method}"))
        return self._called(f"numpy.{name}", NUMPY[name], inputs, named)

    def __array_function__(
        self, function: Any, types: Any, inputs: Sequence[Any], named: Mapping[str, Any]
    ) -> Any:
        package, name = function.__module__, function.__name__
        if package.endswith("linalg"):
            name = f"linalg.{name}"
        if name not in NUMPY:
            _refused(f"numpy.{name}")
        return self._called(f"numpy.{name}", NUMPY[name], inputs, named)

    @classmethod
    def __torch_function__(cls, *args: Any) -> Any:
        return cls._called_by_torch(*args)

    @classmethod
    def _called_by_torch(
        cls, function: Any, types: Any, inputs: Sequence[Any] = (), named: Any = None
    ) -> Any:
        name = _name_in_torch(function)
        return cls._called(f"torch.{name}", TORCH[name], inputs, named or {})

    @classmethod
    def _called(
        cls, name: str, row: Function, inputs: Sequence[Any], named: Mapping[str, Any]
    ) -> Any:
        first, others = _bound(name, row, inputs, named)
        if not (row.is_raw or isinstance(first, LazyCore)):
            lazy = next(v for v in (*inputs, *named.values()) if isinstance(v, LazyCore))
            first = lazy._taken(first)
        if isinstance(row.method, str):
            return getattr(first, row.method)(**others)
        return row.method(first, **others)

    # -- what would make something else of it ------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        raise TypeError(f"{self._what} is no array of NumPy: .dense() gives the array")

    def __float__(self) -> NoReturn:
        raise TypeError(
            f"{self._what} is no single number: reduce it, as by .sum(axis=1), or take .dense()"
        )

    __int__ = __complex__ = __index__ = __float__

    def __bool__(self) -> NoReturn:
        raise ArgumentError(
            f"{self._what} is neither true nor false: a < b < c is (a < b) * (b < c), `and` is *, "
            "`or` is .logical_or(...), and `K is not None` asks whether there is one"
        )

    def __xor__(self, other: object) -> NoReturn:
        raise ArgumentError("'^' is no operator of LazyTensors: x ** 2 is a power")

    def __and__(self, other: object) -> NoReturn:
        raise ArgumentError("'&' is no operator of LazyTensors: multiply, as in (a < b) * (c < d)")

    def __invert__(self) -> NoReturn:
        raise ArgumentError("'~' is no operator of LazyTensors: write 1 - (a < b)")

    def __len__(self) -> NoReturn:
        raise TypeError(f"{self._what} has no length: reduce it, or take .dense()")

    def __iter__(self) -> NoReturn:
        raise TypeError(f"{self._what} has no items: .dense() gives the array, whose rows are i")

    def __contains__(self, value: object) -> NoReturn:
        raise TypeError(f"{self._what} cannot be searched: .dense() gives the array")

    @property
    def _what(self) -> str:
        return f"a LazyTensor of shape {self.shape}"
