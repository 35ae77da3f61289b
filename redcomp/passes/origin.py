"""origin: move the row's and the column's operand of a sum to a common origin.

    x_i - y_j = (x_i - o) - (y_j - o)        x_i + y_j = (x_i + o) + (y_j - o)

The difference of two close numbers far from 0 is exact; that of their multiples is not, because
each multiple has been rounded.  If o is a point of the data, x_i - o and y_j - o are exact too, and
no larger than the diameter of the data; so the errors of their multiples are small.

The origin is the value of the column's operand in one column.  If this is NaN, or its square
overflows, the origin is 0 and nothing is moved.
"""

from __future__ import annotations

from redcomp.ir import (
    J_BIT,
    P,
    Value,
    compare,
    constant,
    elementwise,
    select,
    topological,
    variable,
)

# Origins are below the root of the largest number, so that nothing overflows for being moved.
_LIMITS = {"f32": 2.0**63, "f64": 2.0**511}


def moved(total: Value) -> tuple[Value, Value] | None:
    """The operands of a sum or a difference, one of rows and one of columns, from their origin.

    None where the side of columns depends on more than j-variables and parameters.
    """
    a, b = total.args
    of_columns = b if b.dependence == J_BIT else a
    sample = _in_one_column(of_columns)
    if sample is None:
        return None
    limit = constant(_LIMITS[sample.dtype], sample.dtype)
    # The comparison does not hold for NaN.
    origin = select(compare("olt", elementwise("abs", sample), limit), sample, 0.0)
    if total.op == "subtract":
        return a - origin, b - origin
    return (a + origin, b - origin) if of_columns is b else (a - origin, b + origin)


def with_samples(program: P) -> P:
    """The program with a parameter for each value of one column that it reads."""
    known = {(param.attrs, param.type) for param in program.params}
    read = {
        (value.attrs, value.type): value
        for value in program.values
        if value.op == "variable" and value["kind"] == "j_sample"
    }
    new = [variable for key, variable in read.items() if key not in known]
    return program.with_params((*program.params, *new)) if new else program


def _in_one_column(value: Value) -> Value | None:
    """What the value is in the column that stands for all."""
    done: dict[Value, Value] = {}
    for part in topological([value]):
        if part.op != "variable":
            done[part] = part.with_args(tuple(done[arg] for arg in part.args))
        elif part["kind"] == "j":
            name, position = f"{part['name']}.sample", part["position"]
            done[part] = variable(name, "j_sample", position, part.type)
        elif part["kind"] == "parameter":
            done[part] = part
        else:
            return None
    return done[value]
