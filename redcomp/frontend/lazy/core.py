"""What a `LazyTensor` is: an expression, and what its variables are bound to.

Operations make larger expressions; reductions over i or j compute.  `operators`, `methods` and
`reductions` add what users call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from redcomp import arguments, foreign
from redcomp.errors import ArgumentError, KeywordError
from redcomp.frontend.language.aliases import KIND_OF_CATEGORY
from redcomp.frontend.language.expressions import (
    Expression,
    Placed,
    aliases_of,
    text_of,
)
from redcomp.frontend.lazy.bindings import NOTHING, Argument, Bindings, Symbol, with_one_row
from redcomp.frontend.lazy.checked import with_checked_methods
from redcomp.frontend.lazy.display import Shown
from redcomp.frontend.lazy.given import (
    COMPLEX,
    INTEGERS,
    OPERANDS,
    argument_of,
    argument_of_array,
    scalar,
    symbol,
    vector,
)
from redcomp.frontend.lazy.library import Library
from redcomp.frontend.lazy.missing import Advising
from redcomp.frontend.lazy.reduction import Arranged, Job, Keeping, LazyReduction, Reduced

# Bytes of a number, by the name of its dtype; of half precision, where no other is known.
_WIDTHS = {"float32": 4, "float64": 8, "complex64": 8, "complex128": 16}

L = TypeVar("L", bound="LazyCore")
K = TypeVar("K", bound="LazyCore")

# Reductions whose results are linear in weights, so that complex weights are two real ones.
_LINEAR_IN_WEIGHTS = ("SumSoftMaxWeight", "SoftMax")

# Integers up to this one are part of expressions, so that they can be folded; others are arguments,
# so that their values do not count for what has been compiled.
LARGEST_LITERAL = 16


# Options for all reductions of a LazyTensor, which its attributes `ranges` and `backend` are.
NO_SETTINGS: Mapping[str, Any] = {}


@with_checked_methods
class LazyCore(Advising):
    """An array of vectors for all pairs (i, j); see `lazy_tensor.LazyTensorBase`."""

    library: ClassVar[Library]
    is_complex: ClassVar[bool] = False
    real_class: ClassVar[type[Any]]
    complex_class: ClassVar[type[Any]]
    __slots__ = ("_bindings", "_expression", "_settings")
    _expression: Expression
    _bindings: Bindings
    _settings: Mapping[str, Any]

    def __init__(self, x: object = None, axis: int | None = None, is_complex: bool = False) -> None:
        self._settings = NO_SETTINGS
        if is_complex is False and isinstance(x, self.library.array_class) and x.shape:
            self._bind(argument_of_array(self.library, x, axis))
        else:
            self._read(x, axis, is_complex)

    def _read(self, x: Any, axis: int | None, is_complex: bool) -> None:
        """Make this what is no array with axes, or complex whatever it is."""
        if isinstance(x, np.ndarray) and not x.shape:
            x = x[()]
        if is_complex is not False and arguments.switch("is_complex", is_complex):
            x = self.complex_class(x, axis)
        if isinstance(x, LazyCore):
            if x.is_complex and not self.is_complex:
                self.__class__ = self.complex_class
            self._expression, self._bindings = x._expression, x._bindings
            self._settings = x._settings
        elif isinstance(x, INTEGERS):
            self._set_number(int(x))
        elif isinstance(x, tuple):
            self._bind(symbol(x))
        else:
            self._bind(argument_of(self.library, x, axis))

    def _bind(self, argument: Argument) -> None:
        shaped = argument.shaped
        if shaped.agreed.is_complex and not self.is_complex:
            self.__class__ = self.complex_class
        self._expression = self.library.build.variable(shaped.slot)
        self._bindings = Bindings({argument.key: argument}, shaped.agreed)

    def _set_number(self, value: int) -> None:
        if abs(value) <= LARGEST_LITERAL:
            self._expression, self._bindings = self.library.build.number(value), NOTHING
        else:
            self._bind(scalar(value))

    # -- operations --------------------------------------------------------------------------------

    def _made(self: L, expression: Expression, bindings: Bindings) -> L:
        made: L = object.__new__(type(self))
        made._expression, made._bindings, made._settings = expression, bindings, self._settings
        return made

    def _read_as(self, lazy_class: type[K]) -> K:
        """The same expression as another class reads it, of parts or of complex numbers."""
        made: K = object.__new__(lazy_class)
        made._expression, made._bindings = self._expression, self._bindings
        made._settings = self._settings
        return made

    def _of_this(self: L, callee: str) -> L:
        """An operation on this alone."""
        return self._made(
            self.library.build.operation(callee, self._expression.in_place), self._bindings
        )

    def _with(self: L, callee: str, other: Any) -> L:
        """An operation on this and another operand; NotImplemented if that cannot be one."""
        if type(other) is not type(self):
            if not self._is_operand(other):
                return NotImplemented  # type: ignore[no-any-return]  # as Python wants it
            other = self._taken(other)
            if type(other) is not type(self):
                return self._apply(callee, other)
        bindings, placement = self._bindings.merged(other._bindings, self.library)
        # Not the operand's own expression: after a graph that is traced, that only stands for one.
        placed = Placed(other._expression.in_place.expression, placement)
        made = self._made(
            self.library.build.operation(callee, self._expression.in_place, placed), bindings
        )
        if other._settings:
            made._take_settings(other)
        return made

    def _after(self: L, callee: str, other: Any) -> L:
        """An operation on another operand and this; NotImplemented if that cannot be one."""
        return self._taken(other)._with(callee, self) if self._is_operand(other) else NotImplemented

    def _apply(self: L, callee: str, *others: Any, first: Sequence[Any] = ()) -> L:
        """An operation on `first`, this, and `others`: LazyTensors, numbers and arrays."""
        operands = self._operands(callee, (*first, self, *others))
        for operand in operands:
            if operand.is_complex:
                of_complex: L = operand._on_complex(callee, operands)
                return of_complex
        bindings = operands[0]._bindings
        placed = [operands[0]._expression.in_place]
        for operand in operands[1:]:
            bindings, placement = bindings.merged(operand._bindings, self.library)
            placed.append(Placed(operand._expression.in_place.expression, placement))
        made = self._made(self.library.build.operation(callee, *placed), bindings)
        for operand in operands:
            if operand._settings:
                made._take_settings(operand)
        return made

    def _operands(self, callee: str, values: Sequence[Any]) -> list[Any]:
        """The operands of an operation; an error about one of them says which."""
        taken: list[Any] = []
        try:
            for value in values:
                taken.append(self._taken(value))
        except ArgumentError as error:
            raise ArgumentError(f"operand {len(taken) + 1} of {callee}: {error}") from None
        return taken

    def _on_complex(self, callee: str, operands: Sequence[Any]) -> Any:
        """The operation, some of whose operands are complex, as this is."""
        raise NotImplementedError

    def _taken(self: L, value: Any, axis: int | None = None) -> L:
        """A value as a LazyTensor of the same library, complex if the value is."""
        if not isinstance(value, LazyCore):
            # A tracer of Python does not follow how the real class becomes the other one.
            lazy_class = self.complex_class if isinstance(value, COMPLEX) else self.real_class
            made: L = lazy_class(value, axis)
            return made
        if value.library is not self.library:
            raise ArgumentError(
                f"a LazyTensor of {self.library.name} meets one of {value.library.name}: make both "
                "from arrays of one library"
            )
        return value  # type: ignore[return-value]

    def _named(self: L, name: str, value: Any, axis: int | None = None) -> L:
        """As `_taken`; an error says which argument it is about."""
        try:
            return self._taken(value, axis)
        except ArgumentError as error:
            raise ArgumentError(f"{name}: {error}") from None

    def _without(self: L, var: Any) -> L:
        """This, on which a symbolic variable has no influence: a call brings no value for it."""
        keys = [a.key for a in self._taken(var)._bindings.arguments if isinstance(a.given, Symbol)]
        bound = self._bindings.arguments
        if not keys or keys[0] not in [a.key for a in bound]:
            return self
        made = tuple(vector([0.0] * a.slot.dim) if a.key in keys else a for a in bound)
        slots = tuple(a.slot for a in made)
        return self._made(
            self.library.build.rebound(self._expression, slots), self._bindings.with_arguments(made)
        )

    def _take_settings(self, other: LazyCore) -> None:
        for name, given in other._settings.items():
            own = self._settings.get(name, given)
            if own is not given and own != given:
                raise ArgumentError(f"these LazyTensors have different {name}")
            self._set(name, own)

    def _set(self, name: str, value: Any) -> None:
        """Give an option to all reductions of what is made of this; None takes it back."""
        others = {n: v for n, v in self._settings.items() if n != name}
        self._settings = others if value is None else {**others, name: value}

    def _number(self: L, value: int) -> L:
        """An integer that is part of the expression, whatever its size."""
        return self._made(self.library.build.number(value), NOTHING)

    def _list_of(self: L, values: tuple[int, ...]) -> L:
        """A list of integers that is part of the expression."""
        return self._made(self.library.build.integers(values), NOTHING)

    def _is_operand(self, value: object) -> bool:
        """Whether an operator can take it; else Python asks the other side."""
        is_own = isinstance(value, (LazyCore, *OPERANDS, self.library.array_class))
        return is_own or foreign.speaks(value)

    # -- attributes --------------------------------------------------------------------------------

    @property
    def ranges(self) -> Any:
        """The blocks of pairs that reductions visit, as `Genred` takes them; None for all."""
        return self._settings.get("ranges")

    @ranges.setter
    def ranges(self, ranges: Any) -> None:
        self._set("ranges", ranges)

    @property
    def backend(self) -> Any:
        """Where reductions compute, as `Genred` takes it; None leaves it to them."""
        return self._settings.get("backend")

    @backend.setter
    def backend(self, backend: Any) -> None:
        self._set("backend", backend)

    @property
    def _shape(self) -> tuple[int, ...]:
        """The shape with the dimension of vectors, as KeOps' `_shape`."""
        bound = self._bindings.agreed
        rows = 1 if bound.rows is None else bound.rows
        columns = 1 if bound.columns is None else bound.columns
        return (*bound.batch, rows, columns, self.ndim)

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., M, N, D), without D if it is 1."""
        shape = self._shape
        return shape[:-1] if shape[-1] == 1 else shape

    @property
    def ni(self) -> int | None:
        """The number of i, None if nothing depends on it."""
        return self._bindings.agreed.rows

    @property
    def nj(self) -> int | None:
        """The number of j, None if nothing depends on it."""
        return self._bindings.agreed.columns

    @property
    def batchdims(self) -> tuple[int, ...] | None:
        """The axes before i and j."""
        return self._bindings.agreed.batch or None

    @property
    def nbatchdims(self) -> int:
        """How many axes there are before i and j."""
        return len(self._bindings.agreed.batch)

    @property
    def ndim(self) -> int:
        """The dimension of the vectors (as in KeOps; `dim()` counts axes)."""
        return self._expression.dim

    def dim(self) -> int:
        """The number of axes, that of the vectors included."""
        return self.nbatchdims + 3

    @property
    def dtype(self) -> str | None:
        """The name of the arrays' dtype; None if there are numbers and symbols only."""
        return self._bindings.agreed.dtype

    @property
    def variables(self) -> tuple[Any, ...]:
        """The arrays and numbers, in the order in which the formula has them."""
        return tuple(a.given for a in self._bindings.arguments if not isinstance(a.given, Symbol))

    @property
    def symbolic_variables(self) -> tuple[tuple[int, int, int], ...]:
        """The symbols: position, dimension, category."""
        return tuple(
            (position, s.slot.dim, KIND_OF_CATEGORY.index(s.slot.kind))
            for position, s in enumerate(self._bindings.symbols)
        )

    @property
    def formula(self) -> str:
        """The expression, as text in the formula language."""
        return text_of(self._expression.in_place)

    @property
    def formula2(self) -> None:
        """None: weights are given to the reduction that has them; KeOps keeps them here."""

    @property
    def axis(self) -> int | None:
        """0, 1 or 2 for a variable, None for anything else."""
        slots = self._expression.slots
        if self._expression.operands or not slots or slots[0].kind not in KIND_OF_CATEGORY:
            return None
        return KIND_OF_CATEGORY.index(slots[0].kind)

    def __repr__(self) -> str:
        return self._shown.text

    def _repr_html_(self) -> str:
        return self._shown.html

    @property
    def _shown(self) -> Shown:
        is_open = self.dtype is None or self._bindings.has_symbols
        width = _WIDTHS.get(self.dtype or "", 2)
        return Shown(
            type(self).__name__,
            self.shape,
            self.dtype,
            self.formula,
            tuple(f"{a.name} = {a.what}" for a in aliases_of(self._expression.slots)),
            sum(getattr(a.value, "nbytes", width * a.slot.dim) for a in self._bindings.arguments),
            None if is_open else math.prod(self._shape) * width,
            self._bindings.has_symbols,
        )

    __hash__ = None  # type: ignore[assignment]  # == makes a LazyTensor

    # -- reductions --------------------------------------------------------------------------------

    def _axis(self, axis: object, dim: object) -> int | None:
        """0 for i, 1 for j, None for the components of vectors."""
        given = axis if dim is None else dim
        if axis is not None and dim is not None and not _is_last(axis) and axis is not dim:
            raise KeywordError("axis and dim are two names of one argument: give one of them")
        if given is None:
            raise ArgumentError("axis is missing: 0 reduces over i, 1 over j, -1 over components")
        if isinstance(given, (tuple, list, str)):
            raise ArgumentError(
                "axis is one integer: 0 reduces over i, 1 over j, -1 over components; reduce the "
                f"result again for another one; it is {arguments.shown(given)}"
            )
        found = arguments.integer("axis", given)
        first = self.nbatchdims
        position = found if found >= 0 else found + first + 3
        if position in (first, first + 1):
            return position - first
        if position == first + 2:
            return None
        raise ArgumentError(
            f"axis must be {first} (over i), {first + 1} (over j) or -1 (over the components of "
            f"vectors), not {found}"
        )

    def reduction(
        self,
        reduction_op: str,
        other: Any = None,
        opt_arg: Any = None,
        axis: int | None = None,
        dim: int | None = None,
        **options: Any,
    ) -> Any:
        """The reduction of that name over i or j.

        reduction_op  as for `Genred`
        other         the weights, where it takes any
        opt_arg       K, where it keeps several
        axis, dim     0 for i or 1 for j, after the axes of a batch
        options       call=False returns a `LazyReduction`, to be called later; keepdim=True, or
                      keepdims=True, keeps the axis that is reduced, with length 1; the others are
                      those of `Genred` and of its call: dtype_acc, use_double_acc, sum_scheme,
                      use_fast_math, allow_tf32, backend, device_id, ranges, out

        Raises ArgumentError (a ValueError).
        """
        if type(reduction_op) is not str:
            reduction_op = arguments.text("reduction_op", reduction_op)
        over = self._axis(axis, dim)
        if over is None:
            raise ArgumentError(f"{reduction_op} reduces over i or j, not over components")
        values = self._with_an_index()
        bindings, formula, weights = values._bindings, values._expression.in_place, None
        result: LazyCore = self
        if other is not None:
            other = self._named("the weights", other)
            if other.is_complex:
                result = other._of_weights(reduction_op)
            bindings, placement = bindings.merged(other._bindings, self.library)
            weights = Placed(other._expression.in_place.expression, placement)
        if opt_arg is not None:
            opt_arg = arguments.integer("opt_arg", opt_arg)
        reduced = Reduced(reduction_op, formula, weights, over, opt_arg)
        axes = 1 if opt_arg is None or self.ndim == 1 else 2
        job = result._keeping(reduced, over - 1 - axes, options)
        return self._run(job, bindings, **options)

    def _of_weights(self: L, reduction_op: str) -> L:
        """What the results of a reduction with these complex weights are like."""
        if reduction_op not in _LINEAR_IN_WEIGHTS:
            raise ArgumentError(
                f"the weights of {reduction_op} are real, as a logarithm is one of positive "
                "numbers; with complex w, K.logsumexp(axis) + log(K.sumsoftmaxweight(w, axis)) is "
                "the principal logarithm of the weighted sum"
            )
        return self

    def _with_an_index(self: L) -> L:
        """This with one i, where it has a batch and depends neither on i nor on j."""
        agreed = self._bindings.agreed
        if not agreed.batch or agreed.rows is not None or agreed.columns is not None:
            return self
        bindings = with_one_row(self._bindings)
        slots = tuple(argument.slot for argument in bindings.arguments)
        return self._made(self.library.build.rebound(self._expression, slots), bindings)

    def _total(self, over: int, options: dict[str, Any]) -> Any:
        """The sum over i (0) or j (1)."""
        job = self._keeping(self._reduced("Sum", over), over - 2, options)
        return self._run(job, self._bindings, **options)

    def _reduced(self, reduction_op: str, over: int) -> Reduced:
        return Reduced(reduction_op, self._expression.in_place, None, over, None)

    def _keeping(self, job: Job, place: int, options: dict[str, Any]) -> Job:
        """The job, with an axis of length 1 at a place of its results if the options say so."""
        if not options:
            return self._job(job)
        asked = [
            arguments.switch(n, options.pop(n)) for n in ("keepdim", "keepdims") if n in options
        ]
        return Keeping(self._job(job), place) if any(asked) else self._job(job)

    def _run(self, job: Job, bindings: Bindings, *, call: bool = True, **options: Any) -> Any:
        """What a job gives, now or later."""
        if self._settings:
            options = {**self._settings, **options}
        if call and not bindings.agreed.is_special:
            return job.run(self.library, bindings, options)
        later = LazyReduction(self.library, job, bindings, options)
        return later() if call and not bindings.has_symbols else later

    def _summed(self, arrange: Callable[[Any], Any], **options: Any) -> Any:
        """The sum over j, arranged by a function of the library's own arrays; or a LazyReduction.

        The options are those of `reduction`.
        """
        reduced = Reduced("Sum", self._expression.in_place, None, 1, None)
        job = self._keeping(reduced, -1, options)
        return self._run(Arranged(job, arrange), self._bindings, **options)

    def _job(self, job: Job) -> Job:
        """What computes a result of this LazyTensor's class, from what computes real numbers."""
        return job


def _is_last(axis: object) -> bool:
    """Whether an axis is -1, which methods say that reduce components by default."""
    return type(axis) is int and axis == -1
