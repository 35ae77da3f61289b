"""Products of matrices and tensors, which are vectors that hold their entries in row-major order.

There is one operation, the contraction `tensordot`; the others are special cases of it.  Its
derivatives are contractions again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from redcomp.ir import Value
from redcomp.ops.access import Access, Position, composite, quotient
from redcomp.ops.table import LIST_PARAMETERS, Array, Domain, Operation, ShapeError, apply, register
from redcomp.records import record

PAIR = Domain(((-2.0, 2.0), (-2.0, 2.0)))

Axes = tuple[int, ...]


# -- shapes ----------------------------------------------------------------------------------------


def _check_tensor(name: str, operand: str, dim: int, dims: Axes) -> None:
    if any(extent < 1 for extent in dims):
        raise ShapeError(f"{name}'s dims{operand} {list(dims)} must be positive")
    if math.prod(dims) != dim:
        raise ShapeError(
            f"{name}'s dims{operand} {list(dims)} has {math.prod(dims)} components, "
            f"but {operand} has dimension {dim}"
        )


def _check_contracted(operand: str, dims: Axes, contracted: Axes) -> None:
    for axis in contracted:
        if not 0 <= axis < len(dims):
            raise ShapeError(
                f"TensorDot's cont{operand} names axis {axis}, "
                f"but dims{operand} {list(dims)} has {len(dims)} axes, numbered from 0"
            )
    if len(set(contracted)) < len(contracted):
        raise ShapeError(f"TensorDot's cont{operand} {list(contracted)} names an axis twice")


def _kept(dims: Axes, contracted: Axes) -> Axes:
    """The axes that are not summed over."""
    return tuple(sorted(set(range(len(dims))) - set(contracted)))


def _tensordot_shape(
    f: int, g: int, *, dimsf: Axes, dimsg: Axes, contf: Axes, contg: Axes, perm: Axes
) -> int:
    _check_tensor("TensorDot", "f", f, dimsf)
    _check_tensor("TensorDot", "g", g, dimsg)
    _check_contracted("f", dimsf, contf)
    _check_contracted("g", dimsg, contg)
    summed, other = [dimsf[a] for a in contf], [dimsg[a] for a in contg]
    if summed != other:
        raise ShapeError(
            f"TensorDot sums over axes of {summed} components of f and {other} of g: "
            "they must be equal"
        )
    count = len(dimsf) + len(dimsg) - 2 * len(contf)
    if perm and sorted(perm) != list(range(count)):
        raise ShapeError(
            f"TensorDot's perm {list(perm)} must name each of the result's {count} axes once, "
            "numbered from 0"
        )
    return f * g // math.prod(summed) ** 2


# -- where the entries are -------------------------------------------------------------------------


@record
class _Axis:
    """One axis of a loop, and how far one step along it moves in f and in g."""

    extent: int
    in_f: int
    in_g: int

    def joins(self, inner: _Axis) -> bool:
        """Whether this axis and the next one inside of it are one longer axis."""
        return (self.in_f, self.in_g) == (inner.in_f * inner.extent, inner.in_g * inner.extent)


def _strides(dims: Axes) -> list[int]:
    return [math.prod(dims[axis + 1 :]) for axis in range(len(dims))]


def _merged(axes: Sequence[_Axis]) -> tuple[_Axis, ...]:
    """The same positions with as few axes as possible: each costs a division in a loop."""
    found: list[_Axis] = []
    for axis in axes:
        if axis.extent == 1:
            continue
        if found and found[-1].joins(axis):
            axis = _Axis(found.pop().extent * axis.extent, axis.in_f, axis.in_g)
        found.append(axis)
    return tuple(found)


@record
class _Contraction:
    """A contraction as loops: over the components of the result, and over what is summed."""

    result: tuple[_Axis, ...]
    summed: tuple[_Axis, ...]


def _contraction(dimsf: Axes, dimsg: Axes, contf: Axes, contg: Axes, perm: Axes) -> _Contraction:
    f, g = _strides(dimsf), _strides(dimsg)
    raw = [_Axis(dimsf[a], f[a], 0) for a in _kept(dimsf, contf)]
    raw += [_Axis(dimsg[a], 0, g[a]) for a in _kept(dimsg, contg)]
    order = np.argsort(perm).tolist() if perm else range(len(raw))
    summed = [_Axis(dimsf[a], f[a], g[b]) for a, b in zip(contf, contg, strict=True)]
    return _Contraction(_merged([raw[k] for k in order]), _merged(summed))


def _extent(axes: Sequence[_Axis]) -> int:
    return math.prod(axis.extent for axis in axes)


def _all_offsets(axes: Sequence[_Axis]) -> tuple[Array, Array]:
    """Where each step of the loop over the axes reads f and g."""
    in_f = in_g = np.zeros(1, np.int64)
    for axis in axes:
        steps = np.arange(axis.extent)
        in_f = (in_f[:, None] + axis.in_f * steps).ravel()
        in_g = (in_g[:, None] + axis.in_g * steps).ravel()
    return in_f, in_g


def _evaluate(f: Array, g: Array, **attrs: Axes) -> Array:
    loops = _contraction(**attrs)
    (result_f, result_g), (summed_f, summed_g) = map(_all_offsets, (loops.result, loops.summed))
    factor = f[..., result_f[:, None] + summed_f]
    return np.asarray((factor * g[..., result_g[:, None] + summed_g]).sum(axis=-1))


# -- one component ---------------------------------------------------------------------------------


def _sum(a: Position, b: Position) -> Position:
    """a + b, without the zeros that have no effect."""
    if isinstance(b, int) and b == 0:
        return a
    return b if isinstance(a, int) and a == 0 else a + b


def _offsets(axes: Sequence[_Axis], position: Position) -> tuple[Position, Position]:
    """Where one step of the loop over the axes reads f and g."""
    in_f: Position = 0
    in_g: Position = 0
    bound = _extent(axes)
    for n, axis in reversed(list(enumerate(axes))):
        outer = quotient(position, axis.extent, bound) if n else 0
        digit = position - outer * axis.extent if n else position
        in_f = _sum(in_f, _multiple(digit, axis.in_f))
        in_g = _sum(in_g, _multiple(digit, axis.in_g))
        position, bound = outer, bound // axis.extent
    return in_f, in_g


def _multiple(digit: Position, stride: int) -> Position:
    return digit if stride == 1 else 0 if stride == 0 else digit * stride


def _element(access: Access, value: Value, k: Position) -> Value:
    f, g = value.args
    loops = _contraction(*(value[name] for name in LIST_PARAMETERS))
    at_f, at_g = _offsets(loops.result, k)

    def factors(n: Position) -> tuple[Value, ...]:
        more_f, more_g = _offsets(loops.summed, n)
        return access.element(f, _sum(at_f, more_f)), access.element(g, _sum(at_g, more_g))

    return access.fold("fma", None, factors, _extent(loops.summed))


# -- derivatives -----------------------------------------------------------------------------------


@record
class _Operand:
    """One operand of a contraction.

    contracted  its axes that are summed over
    kept        the others
    places      for each of the others, the axis of the result that it becomes
    """

    value: Value
    dims: Axes
    contracted: Axes
    kept: Axes
    places: Axes


def _cotangent(e: Value, dims: Axes, own: _Operand, other: _Operand) -> Value:
    """The cotangent of one operand: e contracted with the other over what came from the other."""
    own_axes = dict(zip(own.places, own.kept, strict=True))
    partners = dict(zip(other.contracted, own.contracted, strict=True))
    perm = [own_axes[axis] for axis in sorted(own_axes)]
    perm += [partners[axis] for axis in sorted(partners)]
    return _contract(e, other.value, dims, other.dims, other.places, other.kept, tuple(perm))


def _pullback(e: Value, value: Value) -> tuple[Value | None, ...]:
    f, g = value.args
    dimsf, dimsg, contf, contg = (value[name] for name in ("dimsf", "dimsg", "contf", "contg"))
    kept_f, kept_g = _kept(dimsf, contf), _kept(dimsg, contg)
    perm = value["perm"] or tuple(range(len(kept_f) + len(kept_g)))
    left = _Operand(f, dimsf, contf, kept_f, perm[: len(kept_f)])
    right = _Operand(g, dimsg, contg, kept_g, perm[len(kept_f) :])
    raw = [dimsf[a] for a in kept_f] + [dimsg[a] for a in kept_g]
    dims = tuple(raw[k] for k in np.argsort(perm))
    return _cotangent(e, dims, left, right), _cotangent(e, dims, right, left)


# -- special cases ---------------------------------------------------------------------------------


def _contract(
    f: Value,
    g: Value,
    dimsf: Axes,
    dimsg: Axes,
    contf: Axes = (),
    contg: Axes = (),
    perm: Axes = (),
) -> Value:
    return apply("tensordot", f, g, dimsf=dimsf, dimsg=dimsg, contf=contf, contg=contg, perm=perm)


def _quotient_shape(name: str, matrix: int, vector: int) -> int:
    if matrix % vector:
        raise ShapeError(
            f"{name}'s matrix has {matrix} components: "
            f"not a multiple of the vector's dimension {vector}"
        )
    return matrix // vector


def _mat_vec_mult(a: Value, b: Value) -> Value:
    return _contract(a, b, (a.dim // b.dim, b.dim), (b.dim,), (1,), (0,))


def _vec_mat_mult(b: Value, a: Value) -> Value:
    return _contract(b, a, (b.dim,), (b.dim, a.dim // b.dim), (0,), (0,))


def _kron_shape(f: int, g: int, *, dimsf: Axes, dimsg: Axes) -> int:
    _check_tensor("Kron", "f", f, dimsf)
    _check_tensor("Kron", "g", g, dimsg)
    if len(dimsf) != len(dimsg):
        raise ShapeError(
            f"Kron takes tensors with the same number of axes, not {len(dimsf)} and {len(dimsg)}"
        )
    return f * g


def _kron(f: Value, g: Value, *, dimsf: Axes, dimsg: Axes) -> Value:
    # Each axis of the result is one of f and, inside of it, one of g.
    count = 2 * len(dimsf)
    perm = (*range(0, count, 2), *range(1, count, 2))
    return _contract(f, g, dimsf, dimsg, perm=perm)


_composite = functools.partial(composite, section="Matrices and tensors", domain=PAIR)


register(
    Operation(
        "tensordot",
        2,
        "f of shape dimsf times g of shape dimsg, summed over f's axes contf and g's contg; "
        "then, where perm is given, the remaining axis number k (f's first) becomes axis perm[k]",
        _evaluate,
        "TensorDot",
        "Matrices and tensors",
        LIST_PARAMETERS,
        _tensordot_shape,
        elementwise=False,
        element=_element,
        pullback=_pullback,
        domain=PAIR,
        ulp=8.0,
        is_polynomial=True,
    ),
    _composite(
        "MatVecMult",
        2,
        "the matrix A, with rows as long as b, times the vector b",
        lambda a, b: _quotient_shape("MatVecMult", a, b),
        _mat_vec_mult,
        operands=("A", "b"),
    ),
    _composite(
        "VecMatMult",
        2,
        "the vector b times the matrix A, with columns as long as b",
        lambda b, a: _quotient_shape("VecMatMult", a, b),
        _vec_mat_mult,
        operands=("b", "A"),
    ),
    _composite(
        "TensorProd",
        2,
        "the products f[k] g[l], k outside",
        lambda f, g: f * g,
        lambda f, g: _contract(f, g, (f.dim,), (g.dim,)),
    ),
    _composite(
        "Kron",
        2,
        "Kronecker product of f of shape dimsf and g of shape dimsg",
        _kron_shape,
        _kron,
        ("dimsf", "dimsg"),
    ),
)
