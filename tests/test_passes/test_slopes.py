"""slopes: what a sum's derivatives are sums of is computed beside its terms."""

from __future__ import annotations

import pytest
from pass_tools import EXACT

from redcomp.errors import ArgumentError
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


@pytest.mark.parametrize(
    "text",
    [
        BEFORE.replace('"sum"', '"logsumexp"'),
        BEFORE.replace('yield"(%1) : (f64)', 'yield"(%y) : (vector<3xf64>)'),
    ],
    ids=["no sum", "three components"],
)
def test_what_has_none(text: str) -> None:
    with pytest.raises(ArgumentError, match="only a single sum of dimension 1 has slopes"):
        slopes(parse_kernel(text), EXACT, wrt=(0,))


def test_arguments_are_checked() -> None:
    with pytest.raises(ArgumentError, match="there is no number 3 among 3 arguments"):
        slopes(parse_kernel(BEFORE), EXACT, wrt=(3,))
