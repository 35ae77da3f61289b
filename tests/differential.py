"""One random case against the dense float64 reference; needs the CPU and PyTorch.

Values and gradients may differ by what `agreement` allows.  Where two terms are so close that
rounding decides which of them wins, either may: that is checked through the terms' values, and no
cotangent goes there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from agreement import HALVES, allowance, assert_close, exact_and_noise
from random_cases import Case, Program, Reduced
from reference import Tensor, Variable, declared, spread, terms
from reference_reductions import (
    CHOOSING,
    EXPONENTS,
    NOTHING,
    SELECTIONS,
    TRUTHS,
    arranged,
    pair_mask,
    reduce_pairs,
    winners,
)

import redcomp.numpy
import redcomp.torch

LARGEST = 6e4  # of the float16 numbers
NOISY = 1e-3  # relative noise that would hide mistakes

Dense = Callable[[Sequence[Tensor]], list[Tensor]]


class Expected(NamedTuple):
    """What the reference says about one formula of a case."""

    reduced: Reduced
    places: Tensor | None  # of the winners
    candidates: Tensor | None  # the terms as a selection sees them, NaN where they do not count
    slack: float  # how far rounding may move a term

    @property
    def gives_floats(self) -> bool:
        """Whether a result has a gradient."""
        name = self.reduced.reduction_op
        return name not in TRUTHS and (
            name not in SELECTIONS or "value" in SELECTIONS[name].returns
        )

    def clear(self) -> Tensor:
        """Which winners rounding cannot change: no other value is as near as the slack."""
        assert self.places is not None
        assert self.candidates is not None
        value = self.candidates.gather(-2, self.places.clamp(min=0))
        near = [
            (((self.candidates - v).abs() <= self.slack) & (self.candidates != v)).any(-2)
            for v in value.split(1, dim=-2)
        ]
        return ~torch.stack(near, dim=-2) | (self.places == NOTHING)


class Reference:
    """The dense computation of a case, from any float32 or float64 tensors."""

    def __init__(self, case: Case, tensors: Sequence[Tensor]) -> None:
        self.program = case.program
        self.axis = case.program.axis
        self.variables: list[Variable] = declared([str(a) for a in case.program.arguments])
        ranges = case.ranges()
        self.mask = None if ranges is None else pair_mask(ranges, case.rows, case.columns)
        self.expected = [self._expect(r, tensors) for r in self.program.results]

    def spread(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return spread(self.variables, tensors)

    def terms(self, formula: str, spreads: Sequence[Tensor]) -> Tensor:
        return terms(formula, self.variables, spreads)

    def reduce(self, spreads: Sequence[Tensor], change: Any = lambda t: t) -> list[Tensor]:
        """All results that are floats; `change` is done to the terms of sums and to the weights."""
        results: list[Tensor] = []
        for reduced, places, *_ in self.expected:
            name, formula2 = reduced.reduction_op, reduced.formula2
            t = self.terms(reduced.formula, spreads)
            weights = None if formula2 is None else change(self.terms(formula2, spreads))
            t = change(t) if name in ("Sum", "Mean") else t
            results += reduce_pairs(name, t, self.axis, self.mask, weights, places=places)
        return [r for r in results if r.is_floating_point()]

    def _expect(self, reduced: Reduced, tensors: Sequence[Tensor]) -> Expected:
        if reduced.reduction_op not in CHOOSING:
            return Expected(reduced, None, None, 0.0)
        evaluate: Dense = lambda leaves: [self.terms(reduced.formula, self.spread(leaves))]
        (exact,), (noise,) = exact_and_noise(evaluate, tensors)
        places = winners(reduced.reduction_op, exact, self.axis, self.mask, reduced.count)
        pairs = arranged(exact, self.axis, self.mask)
        largest = float(exact.abs().max()) if exact.numel() else 0.0
        dtype = torch.float64 if self.program.dtype == torch.float64 else torch.float32
        slack = 2 * float(allowance(exact, noise, dtype, largest))
        candidates = pairs.filled(torch.nan)
        return Expected(reduced, places, candidates, slack)


@functools.lru_cache(maxsize=4)
def compiled(program: Program) -> Any:
    """The operation for PyTorch; cases of one program share it."""
    return redcomp.torch.Genred(**program.options_of_genred())


@functools.lru_cache(maxsize=4)
def compiled_for_numpy(program: Program) -> Any:
    return redcomp.numpy.Genred(**program.options_of_genred())


def check_case(case: Case) -> bool:
    """Compare values and gradients; False if the case's own noise would hide mistakes.

    Raises AssertionError that says what differs.
    """
    program, tensors = case.program, case.tensors()
    operation = compiled(program)
    reference = Reference(case, [t.float() for t in tensors])
    leaves = [t.clone(memory_format=torch.preserve_format).requires_grad_() for t in tensors]
    results = _flat(program, operation(*leaves, ranges=case.ranges()))
    floats = [r for r in results if r.dtype == program.dtype]
    exact_values = reference.reduce(reference.spread([t.double() for t in tensors]))
    weights = _cotangents(reference, exact_values)
    probes = [_eighths(t.shape, n) for n, t in enumerate(tensors)]
    further = (weights, probes if program.is_second_order else None)
    evaluate: Dense = lambda given: _with_gradients(
        lambda t: reference.reduce(reference.spread(t)), given, *further
    )
    exact, noise = exact_and_noise(evaluate, [t.float() for t in tensors])
    sizes = _sizes(reference, tensors, *further)
    if _is_too_noisy(program, exact, noise, sizes):
        return False
    _check_others(reference, case, results)
    computed = _with_gradients(lambda t: floats, leaves, *further)
    labels = [f"value {n}" for n in range(len(floats))]
    for order in ("gradient", "second gradient"):
        labels += [f"{order} of {a.name}" for a in program.arguments]
    for label, *compared in zip(labels, computed, exact, noise, sizes, strict=False):
        result, right, own, size = compared
        assert_close(result, right, own, program.dtype, size, label)
    if case.checks_numpy and program.dtype != torch.bfloat16:
        _check_numpy(case, tensors)
    return True


def _flat(program: Program, results: Any) -> list[Tensor]:
    """All results in a row, after a look at how they come."""
    if len(program.results) == 1:
        results = (results,)
    assert isinstance(results, tuple), type(results)
    flat: list[Any] = []
    for reduced, result in zip(program.results, results, strict=True):
        selection = SELECTIONS.get(reduced.reduction_op)
        if selection is not None and len(selection.returns) > 1:
            assert isinstance(result, tuple), type(result)
            assert len(result) == len(selection.returns)
            flat += result
        else:
            flat.append(result)
    return flat


def _eighths(shape: Sequence[int], seed: int) -> Tensor:
    """Numbers that every dtype has."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-8, 9, tuple(shape), generator=generator).double() / 8


def _cotangents(reference: Reference, values: Sequence[Tensor]) -> list[Tensor]:
    """One for each float result: 0 where rounding decides which term has the gradient."""
    found: list[Tensor] = []
    for expected in reference.expected:
        if not expected.gives_floats:
            continue
        value = values[len(found)]
        cotangent = _eighths(value.shape, len(found))
        if expected.places is not None:
            is_clear = expected.clear()
            if expected.reduced.reduction_op in EXPONENTS:  # one place for all components
                is_clear = is_clear[..., 0, :].expand(value.shape)
            cotangent = cotangent * is_clear.reshape(value.shape)
        found.append(cotangent)
    return found


def _with_gradients(
    compute: Dense,
    leaves: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    probes: Sequence[Tensor] | None,
) -> list[Tensor]:
    """Results, gradients of their weighted sum, and with probes gradients of those's sum."""
    # The sum over the arguments gives a graph even to a formula without any derivative.
    nothing = 0 * sum(t.sum() for t in leaves)
    values = compute(leaves)
    if not values:
        return []
    options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
    given = [c.to(v.dtype) for c, v in zip(cotangents, values, strict=True)]
    linked = [v + nothing for v in values]
    is_probed = probes is not None
    first = torch.autograd.grad(linked, leaves, given, create_graph=is_probed, **options)
    if probes is None:
        return [*values, *first]
    mixture = sum(((g * p).sum() for g, p in zip(first, probes, strict=True)), nothing)
    return [*values, *first, *torch.autograd.grad(mixture, leaves, **options)]


def _sizes(
    reference: Reference,
    tensors: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    probes: Sequence[Tensor] | None,
) -> list[Tensor]:
    """What each result's rounding errors are relative to: sums of absolute terms."""
    spreads = reference.spread([t.double() for t in tensors])
    leaves = [t.clone().requires_grad_() for t in spreads]
    spread_probes = None if probes is None else reference.spread(probes)
    found = _with_gradients(reference.reduce, leaves, cotangents, spread_probes)
    sizes = [1 + v.abs() for v in reference.reduce(spreads, lambda t: t.abs())]
    for n, part in enumerate(found[len(sizes) :]):
        variable, tensor = reference.variables[n % len(tensors)], tensors[n % len(tensors)]
        total = part.abs()
        for axis in {"i": (-2,), "j": (-3,), "parameter": (-2, -2)}[variable.kind]:
            total = total.sum(axis)
        sizes.append(total.sum_to_size(tensor.shape))
    return [s.detach() for s in sizes]


def _is_too_noisy(
    program: Program, exact: Sequence[Tensor], noise: Sequence[float], sizes: Sequence[Tensor]
) -> bool:
    for right, own, size in zip(exact, noise, sizes, strict=True):
        if own > NOISY * (1 + float(size[size.isfinite()].sum())):
            return True
        known = right[right.isfinite()]
        if program.dtype in HALVES and known.numel() and float(known.abs().max()) > LARGEST:
            return True
    return False


def _check_others(reference: Reference, case: Case, results: Sequence[Tensor]) -> None:
    """Places and truth values."""
    left = list(results)
    tensors = [t.double() for t in case.tensors()]
    for expected in reference.expected:
        name = expected.reduced.reduction_op
        selection = SELECTIONS.get(name)
        for returned in selection.returns if selection else ("value",):
            result = left.pop(0)
            if name in TRUTHS:
                t = reference.terms(expected.reduced.formula, reference.spread(tensors))
                (right,) = reduce_pairs(name, t, reference.axis, reference.mask)
                assert result.dtype == torch.bool, result.dtype
                assert result.shape == right.shape, (name, result.shape, right.shape)
                assert torch.equal(result, right), name
            elif returned == "place":
                _check_places(expected, result)


def _check_places(expected: Expected, result: Tensor) -> None:
    assert expected.places is not None
    assert expected.candidates is not None
    name, right = expected.reduced.reduction_op, expected.places.clamp(min=0)
    assert result.dtype == torch.int64, result.dtype
    shape = right.shape
    if not SELECTIONS[name].takes_count:
        shape = (*shape[:-2], shape[-1])
    elif shape[-1] == 1:
        shape = shape[:-1]
    assert result.shape == shape, (name, result.shape, shape)
    places = result.reshape(right.shape)
    wrong = (places != right) & expected.clear()
    assert not wrong.any(), (
        f"{name}: places {places[wrong][:5].tolist()} instead of {right[wrong][:5].tolist()}, "
        f"{int(wrong.sum())} of {wrong.numel()} differ"
    )
    columns = expected.candidates.shape[-2]
    assert bool(((places >= 0) & (places < columns)).all()), f"{name}: a place beyond the columns"
    found, best = (expected.candidates.gather(-2, p) for p in (places, right))
    far = ~((found - best).abs() <= expected.slack) & (expected.places != NOTHING)
    assert not far.any(), f"{name}: the term at place {places[far][0].item()} is not the extremum"


def _check_numpy(case: Case, tensors: Sequence[Tensor]) -> None:
    """NumPy's arrays give the same results as tensors that are not differentiated, to the bit.

    Those that are may be rounded otherwise under fast math.
    """
    ranges = case.ranges()
    results = _flat(case.program, compiled(case.program)(*tensors, ranges=ranges))
    given = None if ranges is None else tuple(t.numpy() for t in ranges)
    operation = compiled_for_numpy(case.program)
    arrays = _flat(case.program, operation(*(t.numpy() for t in tensors), ranges=given))
    for array, tensor in zip(arrays, results, strict=True):
        np.testing.assert_array_equal(array, tensor.detach().numpy())
