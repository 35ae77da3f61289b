"""What the tests of the passes share, texts and values of programs: no backend needed.

In texts a parameter is "name kind type", and an operation stands as it prints.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from redcomp.interpret import interpret
from redcomp.ir import Kernel, Nest, Output, Value, topological
from redcomp.ops.table import primitives
from redcomp.passes.expand import expand
from redcomp.target import Context, Options, Target
from redcomp.text.spelling import NEST_CARRIED, NEST_COMPUTED, NEST_HOISTED

Array = np.ndarray[Any, Any]

# Everything that an expansion may use: the primitives of the widest target.
PRIMITIVES = primitives("fma", "rounding") | {"scale"}


def context_with(
    primitives: Collection[str] = PRIMITIVES,
    *,
    use_fast_math: bool = False,
    negates_operands: bool = False,
    accumulator: str = "f64",
) -> Context:
    """The context of a compilation for a target that emits these operations."""
    target = Target("test", "", "", "", 512, 32, frozenset(primitives))
    target = replace(target, negates_operands=negates_operands)
    return Context(target, Options(use_fast_math, accumulator))


EXACT, FAST = context_with(), context_with(use_fast_math=True)

SPECIAL = (
    0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 1e-30, -1e-30, 1e-40, 1e30, -1e30,
    float("inf"), float("-inf"), float("nan"),
)  # fmt: skip


def _program(name: str, params: str, body: str, results: str, lists: Mapping[str, str]) -> str:
    declared = [param.split(maxsplit=2) for param in params.split(", ")]
    header = ", ".join(f"%{name}: {type_}" for name, _, type_ in declared)
    counts: dict[str, int] = {}
    positions = []
    for argument, _, _ in declared:
        # Numbered names are those that the passes give, each sort of which counts from 0.
        group = argument.rstrip("0123456789") if argument[-1].isdigit() else ""
        positions.append(counts.get(group, 0))
        counts[group] = positions[-1] + 1
    described = {
        "kinds": _strings(kind for _, kind, _ in declared),
        "names": _strings(name for name, _, _ in declared),
        "positions": f"array<i64: {', '.join(map(str, positions))}>",
        **lists,
    }
    yielded = [result.split(": ") for result in results.split(", ")]
    operands = ", ".join(operand for operand, _ in yielded)
    types = ", ".join(type_ for _, type_ in yielded)
    lines = textwrap.indent(textwrap.dedent(body).strip() + "\n", "  ").lstrip("\n")
    attributes = ", ".join(f"{key} = {text}" for key, text in sorted(described.items()))
    return (
        f'"redcomp.{name}"() ({{\n^bb0({header}):\n{lines}'
        f'  "redcomp.yield"({operands}) : ({types}) -> ()\n}}) {{{attributes}}} : () -> ()\n'
    )


def _strings(items: Iterable[str]) -> str:
    return f"[{', '.join(f'{chr(34)}{item}{chr(34)}' for item in items)}]"


def kernel_text(params: str, body: str, results: str, scaled: Sequence[bool] = (False,)) -> str:
    """A kernel that sums; `results` are "%0: f32, ...", the reduced values and then the scales."""
    lists = {
        "counts": f"array<i64: {', '.join('0' for _ in scaled)}>",
        "reductions": _strings(["sum"] * len(scaled)),
        "scaled": f"[{', '.join('true' if one else 'false' for one in scaled)}]",
    }
    return _program("kernel", params, body, results, lists)


def nest_text(params: str, body: str, yielded: str, initial: Sequence[float], **counts: int) -> str:
    """A nest; `counts` has the sizes of its parts that are not empty."""
    parts = (*NEST_CARRIED, *NEST_COMPUTED, *NEST_HOISTED)
    lists = {part: f"{counts.get(part, 0)} : i64" for part in parts}
    lists["initial"] = f"array<f64: {', '.join(map(repr, initial))}>"
    return _program("nest", params, body, yielded, lists)


# -- values --


def variables_of(roots: Iterable[Value]) -> list[Value]:
    """The variables that values read."""
    return [value for value in topological(roots) if value.op == "variable"]


def random_variables(
    params: Iterable[Value],
    rng: np.random.Generator,
    *,
    rows: int = 5,
    columns: int = 7,
    special: bool = False,
) -> dict[str, Array]:
    """An array for each variable; some components are zeros, infinities or NaN where asked for."""
    shapes = {"i": (rows, 1), "j": (1, columns), "ij": (rows, columns), "parameter": ()}
    arrays = {}
    for param in params:
        shape = (*shapes[param["kind"]], param.dim)
        array = rng.uniform(-2.0, 2.0, shape).astype(param.type.numpy)
        if special:
            with np.errstate(over="ignore"):
                chosen = rng.choice(np.array(SPECIAL), shape).astype(param.type.numpy)
            array = np.where(rng.random(shape) < 0.5, chosen, array)
        arrays[param["name"]] = array
    return arrays


def same_bits(a: Array, b: Array) -> bool:
    """Whether two arrays, broadcast to each other, hold the same bits; all NaN count as one."""
    if a.dtype != b.dtype or a.shape[-1] != b.shape[-1]:
        return False
    if a.dtype.kind != "f":
        return bool(np.all(a == b))
    width = f"u{a.dtype.itemsize}"
    equal = np.ascontiguousarray(a).view(width) == np.ascontiguousarray(b).view(width)
    return bool(np.all(equal | (np.isnan(a) & np.isnan(b))))


def results_of(kernel: Kernel, arrays: Mapping[str, Array]) -> list[Array]:
    """The outputs of a kernel, by its definition: scale * sum over the columns, in float64."""
    roots = interpret(kernel.roots, arrays)
    scales = iter(roots[len(kernel.outputs) :])
    grid = np.broadcast_shapes(*(arrays[p["name"]].shape[:-1] for p in kernel.params), (1, 1))
    results = []
    for output, value in zip(kernel.outputs, roots, strict=False):
        summed = np.broadcast_to(value, (*grid, value.shape[-1])).astype(np.float64).sum(axis=1)
        if output.scale is not None:
            scale = next(scales)
            summed = summed * (scale[:, 0] if scale.ndim == 3 else scale)
        results.append(summed)
    return results


def with_samples(params: Iterable[Value], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays, and those of the columns that stand for all: the first ones."""
    params = tuple(params)
    names = {param["position"]: param["name"] for param in params if param["kind"] == "j"}
    samples = {p["name"]: names[p["position"]] for p in params if p["kind"] == "j_sample"}
    return {**arrays, **{sample: arrays[name][:, :1] for sample, name in samples.items()}}


def run_nest(nest: Nest, arrays: Mapping[str, Array], columns: int, tile: int) -> list[Array]:
    """The results of a nest, by its definition: tile after tile, column after column."""
    known = with_samples(nest.params, arrays)
    for hoisted in nest.hoisted:
        (known[hoisted.variable["name"]],) = interpret([hoisted.definition], known)
    by_column = {
        v["name"] for v in variables_of(nest.roots) if v["kind"] in ("j", "product", "update")
    }
    totals = {s.total["name"]: _filled(s.total, s.initial) for s in nest.states}

    def interpreted(name: str, part: str, given: Mapping[str, Array]) -> dict[str, Array]:
        """What a part of each state is, under the names that it is known by."""
        found = interpret([getattr(state, part) for state in nest.states], given)
        names = [getattr(state, name)["name"] for state in nest.states]
        return dict(zip(names, found, strict=True))

    for first in range(0, columns, tile):
        states = interpreted("variable", "start", totals)
        for column in range(first, min(first + tile, columns)):
            pair = {
                name: array[:, column : column + 1] if name in by_column else array
                for name, array in known.items()
            }
            states = interpreted("variable", "adjust", {**pair, **states})
            states = interpreted("variable", "step", {**pair, **states})
        totals = interpreted("total", "merge", {**totals, **states})
    return interpret(nest.results, {**known, **totals})


def _filled(variable: Value, number: float) -> Array:
    return np.full((1, 1, variable.dim), number, variable.type.numpy)


def expanded(value: Value) -> Value:
    """An elementwise value in terms of primitives."""
    kernel = Kernel(tuple(variables_of([value])), (Output(value),))
    return expand(kernel, EXACT).outputs[0].value
