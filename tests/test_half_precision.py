"""Products of what is stored in half precision: how exact they are, their cost, and their place in
the IR: needs PyTorch and ptxas, no GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from on_gpu import on_gpu
from test_gpu_half_precision import ERRORS, FORMATS, reduction
from test_gpu_products import ROWS, UNIT

from redcomp.errors import ArgumentError, CompilerError
from redcomp.frontend.reductions.derivatives import gradient
from redcomp.ir import Kernel, Nest, Output, Type, factors_of, stored_of, variable
from redcomp.passes.pipeline import parse_pipeline, run_pipeline
from redcomp.passes.transpose import with_indices_exchanged
from redcomp.text import parse_program, print_program
from redcomp.text.pretty import pretty
from redcomp.text.pretty_parser import parse_pretty
from redcomp.torch import Genred
from redcomp.verify import verify

SIZES = {
    "uniform": lambda shape: torch.rand(shape),
    "normal": lambda shape: torch.randn(shape),
    "of all sizes": lambda shape: torch.randn(shape) * 10.0 ** torch.randint(-3, 4, shape),
    # The least numbers of float16 have fewer bits, and are multiples of 2^-24.
    "subnormal": lambda shape: torch.randn(shape) * 2.0**-18,
}


def drawn(kind: str, format: str, *shapes: tuple[int, int]) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [SIZES[kind](shape).to(FORMATS[format]) for shape in shapes]


def within(found: torch.Tensor, a: torch.Tensor, b: torch.Tensor, error: float) -> bool:
    """Whether a product of matrices errs by at most so much of the sums of magnitudes."""
    a, b = a.double(), b.double()
    return bool(((found.double() - a @ b).abs() <= error * (a.abs() @ b.abs())).all())


@pytest.mark.sampled(8)
@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("format", FORMATS)
def test_a_product_errs_by_its_sums_only(format, kind):
    """Factors are exact: what is left are the roundings of four sums of float32."""
    x, y = drawn(kind, format, (ROWS, 64), (4, 64))
    aliases = ["x = Vi(64)", "y = Vj(64)"]
    genred = Genred("(x | y)", aliases, axis=1, use_fast_math=True, dtype_acc="float32")
    assert f".{format}.{format}." in genred.lower(FORMATS[format], "sm_90").asm
    with on_gpu("stand-in"):
        found = torch.cat([genred(x, row[None], backend="GPU") for row in y], 1)
    assert within(found, x, y.T, 2 * UNIT)


@pytest.mark.sampled(48)
@pytest.mark.parametrize("columns", [1, 16, 40])
@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("format", FORMATS)
def test_error_of_a_sum_of_multiples(format, kind, columns):
    """sum_j f_ij g_j of numbers f of float32: float16 has 22 bits of them, bfloat16 16."""
    (g,) = drawn(kind, format, (columns, 16))
    f = torch.randn((ROWS, columns), generator=torch.Generator().manual_seed(1))
    with on_gpu("stand-in"):
        found = sums(f, g, format)
    assert within(found, f, g, ERRORS[format] + 4 * UNIT)
    if format == "bf16" and kind == "normal":  # and not by less
        assert not within(found, f, g, 2.0**-20)


def sums(f: torch.Tensor, g: torch.Tensor, format: str) -> torch.Tensor:
    """The sums as kernels compute them, of numbers that are given in float32."""
    genred = Genred("f * g", ["f = Vij(1)", "g = Vj(16)"], axis=1, use_fast_math=True)
    genred.reduction = genred.reduction.stored_as(format)
    assert genred.reduction.lower("f32", "sm_90").nest.updates
    return genred(f[..., None], g.float(), backend="GPU")


@pytest.mark.sampled(5)
@pytest.mark.ptxas
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dim", "wide", "format", "share"),
    [
        ("attention", 64, 64, "bf16", 0.9),
        ("attention", 64, 64, "f16", 0.9),
        ("attention", 128, 128, "bf16", 0.5),
        ("kernel", 64, 3, "f16", 0.6),
        ("distance", 16, 100, "bf16", 0.9),
    ],
)
def test_cost(name, dim, wide, format, share):
    made = reduction(name, dim, wide).reduction.stored_as(format).lower("f32", "sm_90")
    (cost,) = made.costs
    assert cost.spills == 0, cost.resources
    assert cost.reached.pairs >= share * made.ideal.pairs


# -- in the IR -------------------------------------------------------------------------------------


def nest_of(name: str, format: str, target: str = "sm_90") -> Nest:
    lowering = reduction(name, 64, 64).reduction.stored_as(format).lower("f32", target)
    made = run_pipeline(
        parse_pipeline("simplify,factor,accumulate,products"), lowering.kernel, lowering.context
    )
    assert isinstance(made, Nest)
    verify(made)
    return made


def formats_of(nest: Nest) -> list[str]:
    steps = [state.step for state in nest.states if state.step.op == "update"]
    return [factors_of(value) for value in (*(h.definition for h in nest.products), *steps)]


@pytest.mark.parametrize("format", FORMATS)
def test_only_what_is_stored_has_its_format(format):
    assert formats_of(nest_of("attention", format)) == [format, format]
    # From a common origin points have more bits; and so have results of arithmetic.
    assert formats_of(nest_of("distance", format)) == ["f32", format]
    assert formats_of(nest_of("computed", format)) == ["f32", "f32"]


def test_targets_without_fast_tf32_multiply_halves():
    assert formats_of(nest_of("attention", "bf16", "sm_86")) == ["bf16", "bf16"]
    assert not formats_of(nest_of("distance", "f32", "sm_86"))
    assert not formats_of(nest_of("attention", "bf16", "sm_75"))


@pytest.mark.parametrize("form", ["mlir", "pretty"])
def test_texts_have_formats(form):
    lowering = reduction("attention", 64, 64).lower("bfloat16", "sm_90")
    for program in (lowering.kernel, lowering.nest):
        if form == "mlir":
            text = print_program(program)
            assert text == print_program(parse_program(text))
            assert 'stored = ["bf16", "bf16", "bf16"' in text
        else:
            text = pretty(program)
            assert text == pretty(parse_pretty(text))
            assert "vector<64xf32> stored bf16" in text


def test_rows_and_columns_exchanged():
    kernel = with_indices_exchanged(reduction("kernel", 64, 3).lower("float16").kernel)
    assert [stored_of(v) for v in kernel.params] == ["f16"] * 3


def test_derivatives_keep_the_formats_of_arguments():
    genred = reduction("kernel", 64, 3)
    stored = genred.reduction.stored_as("bf16")
    assert stored is genred.reduction.stored_as("bf16")
    assert genred.reduction.stored_as("f32") is genred.reduction
    kernel = gradient(stored, (0,), (True,)).kernel("f32")
    assert [stored_of(v) for v in kernel.params] == ["bf16", "bf16", "bf16", ""]


def test_verify_refuses_other_formats():
    x = variable("x", "i", 0, Type("f64"), None, "f16")
    with pytest.raises(CompilerError, match="numbers of the format 'f16'"):
        verify(Kernel((x,), (Output(x),)))


def test_explain_and_lower_take_dtypes_of_arrays():
    genred = reduction("attention", 64, 64)
    assert "f32, from arrays of bf16" in genred.explain("bfloat16", "avx2")
    assert genred.lower(torch.float16, "sm_90").asm == genred.lower("float16", "sm_90").asm
    # Hosts have no such products.
    assert genred.lower(np.float16, "avx2").llvm == genred.lower("float32", "avx2").llvm
    with pytest.raises(ArgumentError, match="'float16', 'bfloat16', 'float32' or 'float64', not"):
        genred.lower("float8")
