"""What can be called in a formula and is no operation: variables, constants, derivatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from redcomp.errors import SizeError
from redcomp.frontend.language.aliases import KIND_OF_CATEGORY, KIND_OF_CONSTRUCTOR
from redcomp.frontend.language.context import FormulaContext, Item, Operand
from redcomp.frontend.language.formula import Call, Number
from redcomp.ir import Kind, Type, Value, constant, topological, zero
from redcomp.limits import MAX_DIM
from redcomp.ops import ShapeError, apply
from redcomp.ops.extraction import nearest_integer
from redcomp.passes.grad import gradient
from redcomp.passes.jvp import jvp
from redcomp.passes.linear import is_linear
from redcomp.passes.trace import trace
from redcomp.records import record

Operands = Sequence[Operand]


@record
class Builder:
    """Something that can be called.

    arguments  its arguments as one writes them
    build      what a call becomes
    doc        one line of documentation
    dim        the dimension of a call, for the documentation
    least      the number of arguments that it needs, where the last ones may be left out
    differs    where and why it differs from KeOps, for the documentation; "new" if it lacks it
    """

    arguments: tuple[str, ...]
    build: Callable[[FormulaContext, Call, Operands], Item]
    doc: str
    dim: str
    least: int | None = None
    differs: str = ""


def _integer_constant(context: FormulaContext, node: Call, operands: Operands) -> Item:
    item = operands[0].item
    if not isinstance(item, int):
        raise context.error("IntCst's argument must be an integer", operands[0].node)
    return item


def _rational(context: FormulaContext, node: Call, operands: Operands) -> Item:
    *p, q = (context.integer(operand, f"{node.callee.name}'s argument") for operand in operands)
    if q == 0:
        raise context.error("division by zero", node)
    return Fraction(p[0] if p else 1, q)


def _zero(context: FormulaContext, node: Call, operands: Operands) -> Item:
    made = zero(Type(context.dtype, context.dimension(operands[0])))
    return replace(made, span=node.span)


def _var(context: FormulaContext, node: Call, operands: Operands) -> Item:
    position, dim = _position(context, operands[0]), context.dimension(operands[1])
    category = context.integer(operands[2], "the category")
    if not 0 <= category < len(KIND_OF_CATEGORY):
        message = f"expected a category: 0 (i), 1 (j) or 2 (parameter), got {category}"
        raise context.error(message, operands[2].node)
    return context.variable(KIND_OF_CATEGORY[category], position, dim, node)


def _vi_vj_pm(context: FormulaContext, node: Call, operands: Operands) -> Item:
    dim = context.dimension(operands[-1])
    if len(operands) == 2:
        position = _position(context, operands[0])
    else:
        position = context.scope.next_position()
    return context.variable(KIND_OF_CONSTRUCTOR[node.callee.name], position, dim, node)


def _position(context: FormulaContext, operand: Operand) -> int:
    """A stated position, which is written as a number so that `Scope.reserve` could see it."""
    if not isinstance(operand.node, Number):
        raise context.error("the position must be written as a number", operand.node)
    return context.integer(operand, "the position")


def _number(context: FormulaContext, node: Call, operands: Operands) -> Item:
    return context.scope.number("i_index" if node.callee.name == "Ind_i" else "j_index")


def _gather(context: FormulaContext, node: Call, operands: Operands) -> Item:
    item = operands[0].item
    table = item if isinstance(item, Value) else context.vector(operands[0])
    index = context.exact(operands[1])
    if index is None:
        index = nearest_integer(context.vector(operands[1]), table.dim)
    return context.apply("gather", (table, index), {}, node)


def _first(context: FormulaContext, node: Call, operands: Operands) -> Item:
    """Factorize and AutoFactorize ask for shared sub-formulas, which `passes.cse` always shares."""
    for operand in operands[1:]:
        context.vector(operand)
    return context.vector(operands[0])


# -- derivatives


def _variable_of(context: FormulaContext, node: Call, operand: Operand) -> Value:
    """What a derivative is taken with respect to."""
    item = operand.item
    if not isinstance(item, Value) or item.op != "variable" or not item.type.is_float:
        raise context.error(
            f"{node.callee.name}'s argument v must be a variable, no integer", operand.node
        )
    return item


def _sized(
    context: FormulaContext, node: Call, operand: Operand, name: str, dims: Sequence[int]
) -> Value:
    """A vector of one of the dimensions."""
    value = context.vector(operand)
    if value.dim not in dims:
        wanted = " or ".join(map(str, dict.fromkeys(dims)))
        message = f"{node.callee.name}'s argument {name} has dimension {value.dim}, not {wanted}"
        raise context.error(message, operand.node)
    return value


def _derivative(
    context: FormulaContext, node: Call, inputs: Sequence[Value], build: Callable[[], Value]
) -> Value:
    """What a pass makes of the inputs, all of which it visits; too much is an error at the node."""
    known = set(topological(inputs))
    context.count(len(known), node)
    try:
        value = build()
    except ShapeError as error:
        raise context.error(str(error), node) from None
    return context.keep(value, known, node)


def _grad(context: FormulaContext, node: Call, operands: Operands) -> Item:
    output, wrt = context.vector(operands[0]), _variable_of(context, node, operands[1])
    if len(operands) == 3:
        cotangent = _sized(context, node, operands[2], "e", (output.dim,))
    elif wrt["kind"] == "parameter":
        raise context.error("Grad with respect to a parameter needs its third argument", node)
    else:
        other: Kind = "j" if wrt["kind"] == "i" else "i"
        position = context.scope.next_position()
        cotangent = context.variable(other, position, output.dim, node)
    inputs = (output, wrt, cotangent)
    return _derivative(context, node, inputs, lambda: gradient(output, wrt, cotangent))


def _diff(context: FormulaContext, node: Call, operands: Operands) -> Item:
    output = context.vector(operands[0])
    variables, directions = (_items(operand) for operand in operands[1:])
    if len(variables) != len(directions):
        message = f"Diff's argument u has {len(directions)} items, but v has {len(variables)}"
        raise context.error(message, operands[2].node)
    wrt = [_variable_of(context, node, operand) for operand in variables]
    tangents = [
        _sized(context, node, operand, "u", (v.dim,))
        for v, operand in zip(wrt, directions, strict=True)
    ]
    inputs = (output, *wrt, *tangents)
    return _derivative(context, node, inputs, lambda: jvp(output, wrt, tangents))


def _items(operand: Operand) -> Operands:
    return operand.item if isinstance(operand.item, tuple) else (operand,)


def _grad_matrix(context: FormulaContext, node: Call, operands: Operands) -> Item:
    output, wrt = context.vector(operands[0]), _variable_of(context, node, operands[1])
    if output.dim * wrt.dim > MAX_DIM:
        raise context.error(f"the result has more than {MAX_DIM:,} components", node)
    one = constant(1.0, context.dtype)
    rows: list[Value] = []
    known = set(topological((output, wrt)))
    context.count(output.dim * len(known), node)
    for m in range(output.dim):
        component = output if output.dim == 1 else apply("elem", output, m=m)
        row = gradient(component, wrt, one)
        rows.append(context.keep(row, known, node))
    return replace(_concatenated(rows), span=node.span)


def _concatenated(parts: list[Value]) -> Value:
    """All parts one after the other, as a balanced tree."""
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        parts = [apply("concat", f, g) for f, g in pairs] + parts[len(parts) // 2 * 2 :]
    return parts[0]


def _divergence(context: FormulaContext, node: Call, operands: Operands) -> Item:
    wrt = _variable_of(context, node, operands[1])
    output = _sized(context, node, operands[0], "f", (wrt.dim,))
    one = constant(1.0, context.dtype)
    return _derivative(context, node, (output, wrt), lambda: trace(output, wrt, one))


def _laplacian(context: FormulaContext, node: Call, operands: Operands) -> Item:
    output = _sized(context, node, operands[0], "f", (1,))
    wrt = _variable_of(context, node, operands[1])
    one = constant(1.0, context.dtype)
    inputs = (output, wrt)
    return _derivative(context, node, inputs, lambda: trace(gradient(output, wrt, one), wrt, one))


# -- operators on linear functions of a variable


def _linear(context: FormulaContext, node: Call, operands: Operands) -> tuple[Value, Value]:
    """The function f and the variable v of an operator that needs f to be linear in v."""
    output, wrt = context.vector(operands[0]), _variable_of(context, node, operands[1])
    context.count(sum(1 for _ in topological((output,))), node)
    try:
        is_seen = is_linear(output, wrt)
    except SizeError as error:
        raise context.error(f"{node.callee.name}'s function {error.what}", node) from None
    if not is_seen:
        message = f"{node.callee.name} needs a linear function of {wrt['name']}, as sums and "
        message += "products with other terms are; this is none, or cannot be seen to be one"
        raise context.error(message, operands[0].node)
    return output, wrt


def _weights(
    context: FormulaContext, node: Call, operands: Operands, place: int, name: str, dim: int
) -> Value:
    """An optional argument, of dimension 1 or `dim`; 1 if it is left out."""
    if place >= len(operands):
        return constant(1.0, context.dtype)
    return _sized(context, node, operands[place], name, (1, dim))


def _trace_operator(context: FormulaContext, node: Call, operands: Operands) -> Item:
    output, wrt = _linear(context, node, operands)
    _sized(context, node, operands[0], "f", (1, wrt.dim))
    weights = _weights(context, node, operands, 2, "w", wrt.dim)
    inputs = (output, wrt, weights)
    if output.dim == 1:  # a scalar function stands for one that repeats it in every component
        return _derivative(context, node, inputs, lambda: jvp(output, (wrt,), (weights,)))
    return _derivative(context, node, inputs, lambda: trace(output, wrt, weights))


def _adjoint_operator(context: FormulaContext, node: Call, operands: Operands) -> Item:
    output, wrt = _linear(context, node, operands)
    cotangent = _sized(context, node, operands[2], "u", (output.dim,))
    inputs = (output, wrt, cotangent)
    return _derivative(context, node, inputs, lambda: gradient(output, wrt, cotangent))


def _sum_lin_operator(context: FormulaContext, node: Call, operands: Operands) -> Item:
    output, wrt = _linear(context, node, operands)
    left = _weights(context, node, operands, 2, "wl", output.dim)
    right = _weights(context, node, operands, 3, "wr", wrt.dim)
    inputs = (output, wrt, left, right)

    def build() -> Value:
        return apply("sum", left * jvp(output, (wrt,), (right,)))

    return _derivative(context, node, inputs, build)


_IN_FORMULAS = "in formulas as in aliases (KeOps documents it, but has it in aliases only)"
_OLD_NAME = "works (KeOps takes it for the kind of the alias before it)"
_ANY_FORMULA = "any operation may stand in f (KeOps has rules for some)"
_NEW = "new"
_EXACT = "rounded once, to the dtype (KeOps: to float32)"

VARIABLES: Mapping[str, Builder] = {
    "Var": Builder(
        ("position", "dim", "category"),
        _var,
        "the argument at a position: a vector for each i (category 0), for each j (1), or one (2)",
        "dim",
    ),
    **{
        constructor: Builder(
            ("position", "dim"),
            _vi_vj_pm,
            f"{spoken}; without a position, the next argument",
            "dim",
            1,
            differs,
        )
        for constructor, spoken, differs in (
            ("Vi", "a vector for each i", _IN_FORMULAS),
            ("Vj", "a vector for each j", _IN_FORMULAS),
            ("Vij", "a vector for each pair", _NEW),
            ("Pm", "one vector, a parameter", _IN_FORMULAS),
            ("Vx", "the old name of Vi", _OLD_NAME),
            ("Vy", "the old name of Vj", _OLD_NAME),
        )
    },
    "Ind_i": Builder(
        (), _number, "the index i of the row, an integer that counts from 0", "1", differs=_NEW
    ),
    "Ind_j": Builder(
        (), _number, "the index j of the column, an integer that counts from 0", "1", differs=_NEW
    ),
    "Gather": Builder(
        ("table", "index"),
        _gather,
        "the component of a table at an index, or at the integer nearest to it; 0 where the table "
        "has none; differentiated in the table only",
        "1",
        differs=_NEW,
    ),
    "IntCst": Builder(("n",), _integer_constant, "the integer n", "1", differs=_EXACT),
    "IntInv": Builder(("n",), _rational, "1 / n", "1", differs=_EXACT),
    "RatCst": Builder(("p", "q"), _rational, "the fraction p / q", "1", differs=_EXACT),
    "Zero": Builder(("dim",), _zero, "zeros", "dim"),
}

DERIVATIVES: Mapping[str, Builder] = {
    "Grad": Builder(
        ("f", "v", "e"),
        _grad,
        "J' e; without e, which has dimension m, that is the next argument, a Vj for a Vi and "
        "the reverse",
        "n",
        2,
    ),
    "Diff": Builder(
        ("f", "v", "u"),
        _diff,
        "J u; Diff(f, (v, w), (u, t)) adds the derivatives along both",
        "m",
        differs=_ANY_FORMULA,
    ),
    "GradMatrix": Builder(("f", "v"), _grad_matrix, "J, row after row", "m * n"),
    "Divergence": Builder(
        ("f", "v"), _divergence, "the trace of J, for m = n", "1", differs=_ANY_FORMULA
    ),
    "Laplacian": Builder(
        ("f", "v"),
        _laplacian,
        "Divergence(Grad(f, v, 1), v), for m = 1",
        "1",
        differs=_ANY_FORMULA,
    ),
    "TraceOperator": Builder(
        ("f", "v", "w"),
        _trace_operator,
        "for f linear in v: sum over k of w[k] J[k, k] for m = n, of w[k] J[0, k] for m = 1; "
        "w has dimension n or 1, and is 1 if it is left out",
        "1",
        2,
        _ANY_FORMULA,
    ),
    "AdjointOperator": Builder(
        ("f", "v", "u"), _adjoint_operator, "for f linear in v: J' u", "n", differs=_ANY_FORMULA
    ),
    "SumLinOperator": Builder(
        ("f", "v", "wl", "wr"),
        _sum_lin_operator,
        "for f linear in v: sum over k, l of wl[k] J[k, l] wr[l]; weights have as many components "
        "or one, and are 1 if they are left out",
        "1",
        2,
        _ANY_FORMULA,
    ),
    "Factorize": Builder(
        ("f", "g"), _first, "f; shared sub-formulas are computed once in any case", "m"
    ),
    "AutoFactorize": Builder(
        ("f",), _first, "f; shared sub-formulas are computed once in any case", "m"
    ),
}

BUILDERS: Mapping[str, Builder] = {**VARIABLES, **DERIVATIVES}
