"""Schedules of kernels for GPUs follow the figures of each architecture: needs no backend."""

from __future__ import annotations

import numpy as np
import pytest

from redcomp.backends.gpu import GpuLowering
from redcomp.ir import Nest, Partition
from redcomp.numpy import Genred
from redcomp.ops import OPERATIONS
from redcomp.ops.table import Operation, register
from redcomp.passes import partition
from redcomp.ptx.targets import CAPABILITIES
from redcomp.ptx.work import pipe_of

TARGETS = [f"sm_{c.number}" for c in CAPABILITIES]
SLOW = ("sm_75", "sm_86", "sm_87", "sm_89", "sm_101", "sm_103", "sm_120", "sm_121")
WIDE = Genred("Exp(-SqDist(x, y)) * b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(60)"], axis=1)
NEAR = Genred("SqDist(x, y)", ["x = Vi(3)", "y = Vj(3)"], "ArgKMin", axis=1, opt_arg=10)
DISTANT = Genred("Exp(-SqDist(x, y))", ["x = Vi(16)", "y = Vj(16)"], axis=1)


def lowering(operation: Genred, dtype: str, target: str) -> GpuLowering:
    made = operation.lower(dtype, target=target)
    assert isinstance(made, GpuLowering)
    return made


@pytest.mark.sampled(24)
@pytest.mark.parametrize("target", TARGETS)
def test_results_are_divided_less_where_float64_is_slow(target: str) -> None:
    """Each of their kernels computes the exponential anew."""
    made = lowering(WIDE, "float64", target)
    if made.nest.updates:  # by products of matrices one kernel has all sums
        assert target in ("sm_80", "sm_90", "sm_100")
        assert len(made.planned) == 1
    else:
        assert len(made.planned) == (2 if target in SLOW else 3)


def test_the_partition_that_is_chosen_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(nest: Nest, most: int) -> Partition:
        made.append((nest, most))
        return divided(nest, most)

    divided = partition._partitioned
    monkeypatch.setattr(partition, "_partitioned", counted)
    operation = Genred("Exp(-SqDist(x, y)) * b", ["x = Vi(3)", "y = Vj(3)", "b = Vj(90)"], axis=1)
    lowered = lowering(operation, "float32", "sm_89")
    assert len(lowered.planned) > 1
    assert len({most for nest, most in made if nest is lowered.nest}) > 1
    assert len(set(made)) == len(made)
    assert lowered.planned is lowered.plan.parts


@pytest.mark.sampled(4)
@pytest.mark.parametrize("operation", [WIDE, NEAR, DISTANT])
def test_schedules_of_float32_are_the_same_everywhere(operation: Genred) -> None:
    """But for products of matrices, which some targets have."""
    planned = {
        tuple(p.schedule for p in made.planned)
        for made in (lowering(operation, "float32", target) for target in TARGETS)
        if not (made.nest.products or made.nest.updates)
    }
    assert len(planned) == 1


def test_every_primitive_says_what_computes_it() -> None:
    primitives = [r for r in OPERATIONS.values() if r.is_primitive and r.definition is None]
    assert all(row.unit for row in primitives)
    assert not any(row.unit for row in OPERATIONS.values() if row.definition or row.element)
    with pytest.raises(ValueError, match=r"twice is a primitive: its row .* which unit"):
        register(Operation("twice", 1, "2 * a", lambda a: np.asarray(2 * a)))


@pytest.mark.parametrize(
    ("formula", "dtype", "expected"),
    [
        ("Sum(x * y)", "float32", {"fma"}),
        ("Sum(x * y)", "float64", {"fp64"}),
        ("Exp(x + y)", "float32", {"fma", "xu"}),
        ("Max(x + y)", "float64", {"fp64", "alu"}),
        ("Abs(x) + Floor(y + x)", "float32", {"fma", "xu"}),
    ],
)
def test_operations_take_the_pipe_of_their_unit(
    formula: str, dtype: str, expected: set[str]
) -> None:
    operation = Genred(formula, ["x = Vi(2)", "y = Vj(2)"], axis=1)
    nest = lowering(operation, dtype, "sm_90").nest
    operations = [value for value in nest.pair_values if value.op in OPERATIONS]
    assert {pipe_of(value) for value in operations} - {""} == expected
