"""MLIR's own tools read the text form: needs no backend; skips what is not installed."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import ir_samples
import pytest
from hypothesis import HealthCheck, given, settings
from ir_samples import P

from redcomp.ir import Kernel, Output, Part, Partition, Piece
from redcomp.text import parse_kernel, print_kernel, print_partition

pytestmark = pytest.mark.slow

OLDEST, NEWEST = 15, 40


def find_mlir_opt() -> str | None:
    """mlir-opt, or the newest mlir-opt-NN on the PATH."""
    numbered = [f"mlir-opt-{version}" for version in range(NEWEST, OLDEST - 1, -1)]
    return next(filter(None, map(shutil.which, ["mlir-opt", *numbered])), None)


MLIR_OPT = find_mlir_opt()
needs_mlir_opt = pytest.mark.skipif(
    MLIR_OPT is None, reason="mlir-opt is not on the PATH (Debian and Ubuntu: mlir-16-tools)"
)


def reprinted(text: str) -> str:
    """The text as mlir-opt prints it, which has verified the operations of arith and math."""
    command = [str(MLIR_OPT), "--allow-unregistered-dialect", "--mlir-print-op-generic"]
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@needs_mlir_opt
def test_mlir_opt_accepts_and_keeps_everything() -> None:
    text = print_kernel(ir_samples.everything())
    parsed = parse_kernel(reprinted(text))
    assert print_kernel(parsed) == text


@needs_mlir_opt
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(ir_samples.kernels())
def test_mlir_opt_accepts_and_keeps_random_kernels(kernel: Kernel) -> None:
    # mlir-opt 16 crashes when it meets an operation of math before any of arith.
    text = print_kernel(Kernel(kernel.params, (Output(P + P), *kernel.outputs)))
    assert print_kernel(parse_kernel(reprinted(text))) == text


@needs_mlir_opt
@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            '"arith.addf"(%0, %1) : (f32, f32)',
            '"arith.addf"(%x, %1) : (vector<3xf32>, f32)',
            "type",
        ),
        ("{predicate = 4 : i64}", "", "predicate"),
    ],
)
def test_mlir_opt_verifies_the_names_it_knows(before: str, after: str, message: str) -> None:
    text = """\
"redcomp.kernel"() ({
^bb0(%x: vector<3xf32>, %0: f32, %1: f32):
  %2 = "arith.addf"(%0, %1) : (f32, f32) -> f32
  %3 = "arith.cmpf"(%0, %1) {predicate = 4 : i64} : (f32, f32) -> i1
  "redcomp.yield"(%2) : (f32) -> ()
}) : () -> ()
"""
    assert before in text
    assert "arith.cmpf" in reprinted(text)
    with pytest.raises(AssertionError, match=message):
        reprinted(text.replace(before, after))


def parsed_by_xdsl(text: str) -> list[str]:
    """The names of the operations that xDSL finds, verified, in the order of the text.

    xDSL's comparisons and its math take scalars only, so operations on vectors are only parsed.
    """
    pytest.importorskip("xdsl", reason="xDSL is not installed (pip install xdsl)")
    from xdsl.context import Context
    from xdsl.dialects.arith import Arith
    from xdsl.dialects.builtin import Builtin, UnregisteredOp, VectorType
    from xdsl.dialects.math import Math
    from xdsl.parser import Parser

    context = Context(allow_unregistered=True)
    for dialect in (Arith, Builtin, Math):
        context.load_dialect(dialect)
    module = Parser(context, text).parse_module()
    names = []
    for op in module.walk():
        types = [value.type for value in (*op.operands, *op.results)]
        if not any(isinstance(type_, VectorType) for type_ in types):
            op.verify(verify_nested_ops=False)
        names.append(op.op_name.data if isinstance(op, UnregisteredOp) else op.name)
    return names


def test_xdsl_reads_partitions() -> None:
    nest = ir_samples.nest()
    finite = replace(nest, states=tuple(replace(state, initial=0.0) for state in nest.states))
    part = Part(finite, (Piece(0, 0, 1),))
    names = parsed_by_xdsl(print_partition(Partition((part, part))))
    assert names.count("redcomp.part") == names.count("redcomp.nest") == 2


@pytest.mark.sampled(4)
@pytest.mark.parametrize("kernel", [ir_samples.loops(), ir_samples.everything()])
def test_xdsl_reads_each_operation(kernel: Kernel) -> None:
    text = print_kernel(kernel)
    written = [line.split('"')[1] for line in text.splitlines() if '"(' in line]
    assert parsed_by_xdsl(text) == ["builtin.module", *written]
