"""slopes: what derivatives of sums and logarithms are sums of is computed beside their terms."""

from __future__ import annotations

import numpy as np
import pytest
from pass_tools import EXACT

from redcomp.errors import ArgumentError
from redcomp.interpret import interpret
from redcomp.ir import Kernel, Output, Type, variable
from redcomp.ops.table import apply
from redcomp.passes.derivatives import slopes
from redcomp.text import parse_kernel, print_kernel

BEFORE = """\
"redcomp.kernel"() ({
^bb0(%x: vector<3xf64>, %y: vector<3xf64>, %p: f64):
  %0 = "redcomp.scalprod"(%x, %y) : (vector<3xf64>, vector<3xf64>) -> f64
  %1 = "arith.mulf"(%p, %0) : (f64, f64) -> f64
  "redcomp.yield"(%1) : (f64) -> ()
}) {counts = array<i64: 0>, kinds = ["i", "j", "parameter"], names = ["x", "y", "p"], \
positions = array<i64: 0, 1, 2>, reductions = ["sum"], scaled = [false]} : () -> ()
"""

# d(p * (x|y)) is p * y for x, and (x|y) for p; the factor of 1 is the cotangent of a term.
AFTER = """\
"redcomp.kernel"() ({
^bb0(%x: vector<3xf64>, %y: vector<3xf64>, %p: f64):
  %0 = "redcomp.scalprod"(%x, %y) : (vector<3xf64>, vector<3xf64>) -> f64
  %1 = "arith.mulf"(%p, %0) : (f64, f64) -> f64
  %2 = "arith.constant"() {value = 1.0 : f64} : () -> f64
  %3 = "arith.mulf"(%2, %p) : (f64, f64) -> f64
  %4 = "redcomp.multiply"(%3, %y) : (f64, vector<3xf64>) -> vector<3xf64>
  %5 = "arith.mulf"(%2, %0) : (f64, f64) -> f64
  "redcomp.yield"(%1, %4, %5) : (f64, vector<3xf64>, f64) -> ()
}) {counts = array<i64: 0, 0, 0>, kinds = ["i", "j", "parameter"], names = ["x", "y", "p"], \
positions = array<i64: 0, 1, 2>, reductions = ["sum", "sum", "sum"], \
scaled = [false, false, false]} : () -> ()
"""


def test_of_a_row_and_of_a_parameter() -> None:
    made = slopes(parse_kernel(BEFORE), EXACT, wrt=(0, 2))
    assert print_kernel(made).splitlines() == AFTER.splitlines()


def test_of_a_logarithm() -> None:
    """They are reduced behind the exponent, whose exponential is their weight."""
    made = slopes(parse_kernel(BEFORE.replace('"sum"', '"logsumexp_kept"')), EXACT, wrt=(0, 2))
    value, of_x, of_p = made.outputs
    assert [o.reduction for o in made.outputs] == ["logsumexp_kept", *["slopes_of_logsumexp"] * 2]
    for output, dim in ((of_x, 3), (of_p, 1)):
        assert output.value.op == "concat"
        assert output.value.args[0] is value.value
        assert output.value.args[1].dim == dim


def test_of_a_weighted_logarithm() -> None:
    """A weight's derivative counts beside that of the exponent, times the weight."""
    x, y = variable("x", "i", 0, Type("f64")), variable("y", "j", 1, Type("f64"))
    value = apply("concat", x * y, x + y)
    kernel = Kernel((x, y), (Output(value, "weighted_logsumexp_kept"),))
    _, slope = slopes(kernel, EXACT, wrt=(0,)).outputs
    assert slope.reduction == "slopes_of_weighted_logsumexp"
    (found,) = interpret([slope.value], {"x": np.array([3.0]), "y": np.array([5.0])})
    assert found.tolist() == [15, 8, 8 * 5 + 1]


@pytest.mark.parametrize(
    "text",
    [
        BEFORE.replace('"sum"', '"min"'),
        BEFORE.replace('"sum"', '"logsumexp"'),
        BEFORE.replace('yield"(%1) : (f64)', 'yield"(%y) : (vector<3xf64>)'),
    ],
    ids=["an extremum", "nothing is kept", "three components"],
)
def test_what_has_none(text: str) -> None:
    with pytest.raises(ArgumentError, match="only a single result of dimension 1 has slopes, by "):
        slopes(parse_kernel(text), EXACT, wrt=(0,))


def test_arguments_are_checked() -> None:
    with pytest.raises(ArgumentError, match="there is no number 3 among 3 arguments"):
        slopes(parse_kernel(BEFORE), EXACT, wrt=(3,))
