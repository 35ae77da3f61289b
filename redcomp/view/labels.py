"""What groups of values are called: a piece of the formula, or what a reduction does with it."""

from __future__ import annotations

from redcomp.ir import AnyProgram, Nest, Partition, Value
from redcomp.view.sameness import Sameness

_LONGEST = 60
_SIGNS = {"add": " + ", "subtract": " - ", "multiply": " * ", "divide": " / "}


def labels(sameness: Sameness, source: str) -> dict[int, str]:
    """A label for each family, by its number."""
    found: dict[int, str] = {}
    for stage in sameness.stages:
        purposes = {stage.known[v]: text for v, text in _purposes(stage.program)}
        for value in stage.order:
            family = sameness.family[value]
            if family == sameness.group[value] and family not in found:
                label = purposes.get(value) or _label(value, source)
                # What a derivative needs may be from the same piece of the formula as the value.
                is_taken = label in found.values()
                found[family] = f"{label}: {value.op} %{family}" if is_taken else label
    return found


def _label(value: Value, source: str) -> str:
    if value.op == "variable":
        return str(value["name"])
    if value.op == "constant":
        return f"the constant {value['value']:.9g}"
    span = value.span
    text = " ".join(source[span.start : span.stop].split()) if span else ""
    if not text:
        operands = [_label(arg, source) for arg in value.args]
        sign = _SIGNS.get(value.op)
        text = sign.join(operands) if sign else f"{value.op}({', '.join(operands)})"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _purposes(program: AnyProgram) -> list[tuple[Value, str]]:
    """What the values are for that a reduction needs beside the formula's."""
    nests = [p.nest for p in program.parts] if isinstance(program, Partition) else [program]
    found: list[tuple[Value, str]] = []
    for nest in nests:
        if not isinstance(nest, Nest):
            continue
        for state in nest.states:
            name = state.variable["name"]
            found += [(state.variable, f"the state {name}"), (state.total, f"the total of {name}")]
            found += [(state.other, f"another part's total of {name}")]
            found += [(state.step, f"the next {name}"), (state.start, f"the first {name}")]
            found += [(state.adjust, f"{name} adjusted")]
            found += [(state.merge, f"the next total of {name}")]
            found += [(state.join, f"joined totals of {name}")] if state.join is not None else []
        found += [(guard, "whether states are adjusted") for guard in nest.guards]
        found += [(result, "the result") for result in nest.results]
    return [(value, text) for value, text in reversed(found) if not value.is_constant]
