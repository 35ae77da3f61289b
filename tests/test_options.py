"""Several formulas, `out`, accumulation, half precision, K and weights: needs a CPU and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import redcomp.numpy
import redcomp.torch
from redcomp.errors import ArgumentError, FormulaError
from redcomp.frontend.reductions import derivatives

pytestmark = pytest.mark.slow

ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)", "w = Vj(2)"]
GAUSSIAN = "Exp(-SqDist(x, y))"
FACES = pytest.mark.parametrize("face", ["numpy", "torch"])
HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
Tensor = torch.Tensor


def sample(dtype: torch.dtype = torch.float64, rows: int = 40, columns: int = 90) -> list[Tensor]:
    """x, y, b and w."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(rows, 3), (columns, 3), (columns, 1), (columns, 2)]
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def genred(face: str, *args: Any, **options: Any) -> Any:
    return getattr(redcomp, face).Genred(*args, **options)


def arrays(face: str, dtype: torch.dtype = torch.float64) -> list[Any]:
    return [t.numpy() if face == "numpy" else t for t in sample(dtype)]


def distances(x: Tensor, y: Tensor) -> Tensor:
    return ((x[:, None] - y[None]) ** 2).sum(-1)


# -- several formulas ------------------------------------------------------------------------------


@FACES
def test_several_formulas_give_a_tuple(face: str) -> None:
    given = arrays(face)
    formulas = [f"{GAUSSIAN} * b", f"{GAUSSIAN} * w", "x - y"]
    together = genred(face, formulas, ALIASES, axis=1)(*given)
    assert isinstance(together, tuple)
    for formula, result in zip(formulas, together, strict=True):
        alone = genred(face, formula, ALIASES, axis=1)(*given)
        assert result.shape == alone.shape
        np.testing.assert_allclose(result, alone, rtol=1e-12, atol=1e-12)


def test_one_formula_in_a_list_gives_a_tuple_of_one() -> None:
    results = genred("torch", [GAUSSIAN], ALIASES, axis=1)(*sample())
    assert isinstance(results, tuple)
    assert len(results) == 1


def test_different_reductions_share_a_sweep() -> None:
    given = sample()
    squared = distances(*given[:2])
    operation = genred(
        "torch",
        ["SqDist(x, y)", "SqDist(x, y)", "-SqDist(x, y)", "SqDist(x, y)"],
        ALIASES,
        reduction_op=["KMin_ArgKMin", "Sum", "SoftMax", "Max"],
        opt_arg=[4, None, None, None],
        formula2=[None, None, "w", None],
        axis=1,
    )
    (values, places), total, mean, largest = operation(*given)
    expected = squared.sort(dim=1, stable=True)
    torch.testing.assert_close(values, expected.values[:, :4])
    assert torch.equal(places, expected.indices[:, :4])
    torch.testing.assert_close(total[:, 0], squared.sum(1))
    torch.testing.assert_close(mean, (-squared).softmax(1) @ given[3])
    torch.testing.assert_close(largest[:, 0], squared.amax(1))


def test_one_value_of_opt_arg_and_formula2_serves_all() -> None:
    given = sample()
    near, far = genred(
        "torch", ["SqDist(x, y)", "b - x"], ALIASES, reduction_op="KMin", opt_arg=2, axis=1
    )(*given)
    assert near.shape == (40, 2)
    assert far.shape == (40, 2, 3)
    means = genred("torch", ["x | y", "b"], ALIASES, "SoftMax", axis=1, formula2="w")(*given)
    torch.testing.assert_close(means[0], (given[0] @ given[1].T).softmax(1) @ given[3])
    torch.testing.assert_close(means[1][7], given[2][:, 0].softmax(0) @ given[3])


@pytest.mark.sampled(4)
@pytest.mark.parametrize("axis", [0, 1])
def test_gradients_go_to_all_formulas(axis: int) -> None:
    given = [t.requires_grad_() for t in sample()]
    operation = genred(
        "torch",
        [f"{GAUSSIAN} * b", "SqDist(x, y)", "x * b"],
        ALIASES,
        reduction_op=["Sum", "Min", "Max"],
        axis=axis,
    )
    results = operation(*given)
    x, y, b, _ = given
    squared = distances(x, y)[..., None]
    dense = (
        ((-squared).exp() * b[None]).sum(axis),
        squared.amin(axis),
        (x[:, None] * b[None]).amax(axis),
    )
    mixtures = [sum((t**2).sum() for t in group) for group in (results, dense)]
    for group in (given[:3], given[:1]):
        parts = [torch.autograd.grad(m, group, retain_graph=True) for m in mixtures]
        for a, e in zip(*parts, strict=True):
            torch.testing.assert_close(a, e, rtol=1e-10, atol=1e-10)
    (only,) = torch.autograd.grad(results[1].sum(), x, retain_graph=True)
    (right,) = torch.autograd.grad(dense[1].sum(), x)
    torch.testing.assert_close(only, right)


def test_one_kernel_has_all_outputs() -> None:
    operation = genred("numpy", [f"{GAUSSIAN} * b", f"{GAUSSIAN} * w", GAUSSIAN], ALIASES, axis=1)
    lowering = operation.lower("float32", "avx512")
    assert [output.value.dim for output in lowering.kernel.outputs] == [1, 2, 1]
    assert len(lowering.nest.results) == 3
    assert lowering.module.text.count("define internal void @pairs") == 1
    assert lowering.stats.operations["scale"] == 1  # one exponential a pair


def test_gradients_share_a_kernel() -> None:
    reduction = genred("torch", f"{GAUSSIAN} * b", ALIASES, axis=1).reduction
    lowering = derivatives.gradient(reduction, (1, 2), (True,)).lower("f32", "avx512")
    assert [output.value.dim for output in lowering.kernel.outputs] == [3, 1]
    assert lowering.stats.operations["scale"] == 1


@pytest.mark.parametrize("name", ["reduction_op", "opt_arg", "formula2"])
def test_lists_have_an_item_for_each_formula(name: str) -> None:
    items = {"reduction_op": ["Sum"], "opt_arg": [1, 2, 3], "formula2": []}[name]
    with pytest.raises(ArgumentError, match=f"{name} has {len(items)} items for 2 formulas"):
        genred("numpy", ["x", "y"], ["x = Vi(1)", "y = Vj(1)"], **{name: items})


def test_no_formula_at_all() -> None:
    with pytest.raises(ArgumentError, match="no formula"):
        genred("numpy", [], ALIASES)


# -- out -------------------------------------------------------------------------------------------


@FACES
@pytest.mark.parametrize("reduction_op", ["Sum", "ArgMin", "Any", "Mean", "KMin"])
def test_out_is_filled_and_returned(face: str, reduction_op: str) -> None:
    given = arrays(face, torch.float32)
    options = {"opt_arg": 3} if reduction_op == "KMin" else {}
    operation = genred(face, "SqDist(x, y)", ALIASES, reduction_op, axis=1, **options)
    result = operation(*given)
    out = np.zeros_like(result) if face == "numpy" else torch.zeros_like(result)
    assert operation(*given, out=out) is out
    np.testing.assert_array_equal(out, result)
    wide = np.zeros((len(out), 8), out.dtype) if face == "numpy" else out.new_zeros(len(out), 8)
    view = wide[:, : 2 * out.shape[1] : 2]  # any strides
    assert operation(*given, out=view) is view
    np.testing.assert_array_equal(view, result)
    assert (wide[:, 1] == 0).all()


@FACES
@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((40, 2), "float32", r"shape \(40, 1\).*\(40, 2\)"),
        ((40,), "float32", r"shape \(40, 1\)"),
        ((40, 1), "float64", "dtype .*float32.*float64"),
        ((40, 1), "int64", "int64"),
    ],
)
def test_wrong_out(face: str, shape: tuple[int, ...], dtype: str, message: str) -> None:
    out = (
        np.zeros(shape, dtype)
        if face == "numpy"
        else torch.zeros(shape, dtype=getattr(torch, dtype))
    )
    with pytest.raises(ArgumentError, match=message):
        genred(face, GAUSSIAN, ALIASES, axis=1)(*arrays(face, torch.float32), out=out)


def test_out_of_another_library_or_read_only() -> None:
    given = arrays("numpy", torch.float32)
    operation = genred("numpy", GAUSSIAN, ALIASES, axis=1)
    with pytest.raises(ArgumentError, match="out must be a NumPy array"):
        operation(*given, out=torch.zeros(40, 1))
    out = np.zeros((40, 1), np.float32)
    out.flags.writeable = False
    with pytest.raises(ArgumentError, match="cannot be written to"):
        operation(*given, out=out)
    with pytest.raises(ArgumentError, match="out must be a tensor"):
        genred("torch", GAUSSIAN, ALIASES, axis=1)(*sample(), out=np.zeros((40, 1)))


@FACES
def test_out_is_for_one_result(face: str) -> None:
    given = arrays(face)
    out = given[0][:, :1]
    for operation in (
        genred(face, [GAUSSIAN, GAUSSIAN], ALIASES, axis=1),
        genred(face, GAUSSIAN, ALIASES, "Max_ArgMax", axis=1),
    ):
        with pytest.raises(ArgumentError, match="out is for one result"):
            operation(*given, out=out)


def test_out_carries_gradients() -> None:
    x, *others = sample()
    out = torch.zeros(40, 1, dtype=torch.float64)
    operation = genred("torch", GAUSSIAN, ALIASES, axis=1)
    operation(x.requires_grad_(), *others, out=out).sum().backward()
    other = x.detach().clone().requires_grad_()
    operation(other, *others).sum().backward()
    assert torch.equal(x.grad, other.grad)


# -- accumulation ----------------------------------------------------------------------------------

ADDED = ["Sum", "Mean", "Norm", "LogSumExp", "SumSoftMaxWeight", "Max_SumShiftExp"]
ACCUMULATIONS = [
    *({"sum_scheme": s} for s in ("auto", "block_sum", "direct_sum", "kahan_scheme")),
    *({"dtype_acc": d} for d in ("auto", "float16", "float32", "float64")),
    {"use_double_acc": True},
    {"use_double_acc": True, "dtype_acc": "float64"},
    {"use_double_acc": True, "sum_scheme": "kahan_scheme"},
    {"dtype_acc": "float64", "sum_scheme": "direct_sum"},
]


@pytest.mark.sampled(90)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("options", ACCUMULATIONS, ids=str)
@pytest.mark.parametrize("reduction_op", ADDED)
def test_every_accumulation(reduction_op: str, options: dict[str, Any], dtype: Any) -> None:
    """They differ in rounding only, and the result has the dtype of the data."""
    weights = "w" if "Weight" in reduction_op else None
    given = sample(dtype, columns=700)
    operation = genred("torch", "x | y", ALIASES, reduction_op, axis=1, formula2=weights, **options)
    result = operation(*given)
    exact = genred("torch", "x | y", ALIASES, reduction_op, axis=1, formula2=weights)(
        *(t.double() for t in given)
    )
    assert result.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(result.double(), exact, rtol=tolerance, atol=tolerance * 100)


@pytest.mark.parametrize(
    "options",
    [
        {"sum_scheme": "kahan_scheme"},
        {"sum_scheme": "direct_sum", "use_double_acc": True},
        {"sum_scheme": "direct_sum", "dtype_acc": "float64"},
    ],
    ids=str,
)
@pytest.mark.parametrize("rows", [1, 100])
def test_compensated_sums_keep_what_plain_ones_lose(rows: int, options: dict[str, Any]) -> None:
    """To 2**24 a float32 sum adds 1 in vain."""
    y = np.ones((10_000, 1), np.float32)
    y[::256] = 2.0**24
    x, exact = np.ones((rows, 1), np.float32), y.sum(dtype=np.float64)
    aliases = ["x = Vi(1)", "y = Vj(1)"]
    plain = np.abs(genred("numpy", "x * y", aliases, axis=1)(x, y) - exact)
    compensated = np.abs(genred("numpy", "x * y", aliases, axis=1, **options)(x, y) - exact)
    assert compensated.max() <= 2.0**-24 * exact  # rounded once
    if rows > 1:  # of one row, threads of a GPU add few terms each
        assert plain.min() > 50 * compensated.max()
    assert plain.max() <= 256 * 2.0**-24 * exact  # the bound of a block


def test_compensated_vectors_and_gradients() -> None:
    given = [t.requires_grad_() for t in sample(columns=700)]
    results = []
    for scheme in ("auto", "kahan_scheme"):
        value = genred("torch", f"{GAUSSIAN} * w", ALIASES, axis=1, sum_scheme=scheme)(*given)
        results.append([value, *torch.autograd.grad((value**2).sum(), [given[n] for n in (0, 3)])])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype_acc": "double"}, "dtype_acc must be .*'double'"),
        ({"dtype_acc": None}, "dtype_acc"),
        ({"sum_scheme": "kahan"}, "sum_scheme must be .*'kahan'"),
        ({"use_double_acc": True, "dtype_acc": "float32"}, "use_double_acc contradicts"),
        ({"use_double_acc": True, "dtype_acc": "float16"}, "use_double_acc contradicts"),
        *(
            ({"reduction_op": op, **o}, "for reductions that sum: leave them out")
            for op in ("Max", "ArgMin", "Prod", "Any")
            for o in ({"sum_scheme": "kahan_scheme"}, {"dtype_acc": "float64"})
        ),
        (
            {"reduction_op": "KMin", "opt_arg": 2, "use_double_acc": True},
            "for reductions that sum: leave them out",
        ),
    ],
    ids=str,
)
@FACES
def test_wrong_accumulations(face: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        genred(face, "x | y", ALIASES, axis=1, **options)


def test_accumulation_with_one_sum_among_others() -> None:
    operation = genred(
        "torch", ["x | y"] * 2, ALIASES, ["Max", "Sum"], axis=1, sum_scheme="kahan_scheme"
    )
    largest, total = operation(*sample())
    products = sample()[0] @ sample()[1].T
    torch.testing.assert_close(largest[:, 0], products.amax(1))
    torch.testing.assert_close(total[:, 0], products.sum(1))


# -- half precision --------------------------------------------------------------------------------

HALF_REDUCTIONS = ["Sum", "Max", "LogSumExp", "Mean", "ArgMin", "KMin_ArgKMin", "All", "Max_ArgMax"]


@pytest.mark.sampled(4)
@HALVES
@pytest.mark.parametrize("reduction_op", HALF_REDUCTIONS)
def test_half_precision_is_one_rounding_from_float32(reduction_op: str, dtype: Any) -> None:
    given = sample(dtype, columns=700)
    count = 3 if reduction_op.startswith("K") else None
    operation = genred("torch", "SqDist(x, y)", ALIASES, reduction_op, axis=1, opt_arg=count)
    results, exact = operation(*given), operation(*(t.float() for t in given))
    if not isinstance(results, tuple):
        results, exact = (results,), (exact,)
    for result, right in zip(results, exact, strict=True):
        wanted = dtype if right.is_floating_point() else right.dtype
        assert result.dtype == wanted
        assert torch.equal(result, right.to(wanted))


@HALVES
def test_half_precision_accumulates_in_float32(dtype: Any) -> None:
    """2,000 ones: a sum in bfloat16 would stop at 256, one in float16 at 2,048."""
    x, y = torch.ones(3, 1, dtype=dtype), torch.ones(5000, 1, dtype=dtype)
    result = genred("torch", "x * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)(x, y)
    assert (result == torch.tensor(5000.0).to(dtype)).all()


@HALVES
@pytest.mark.parametrize("dtype_acc", ["float32", "float64"])
def test_accumulator_is_the_dtype_of_half_precision_results(dtype: Any, dtype_acc: str) -> None:
    given = sample(dtype, columns=700)
    operation = genred("torch", GAUSSIAN, ALIASES, axis=1, dtype_acc=dtype_acc)
    result, exact = operation(*given), operation(*(t.float() for t in given))
    assert result.dtype == getattr(torch, dtype_acc)
    assert torch.equal(result, exact.to(result.dtype))


@pytest.mark.sampled(18)
@HALVES
@pytest.mark.parametrize("reduction_op", ["Sum", "Max", "LogSumExp"])
def test_gradients_have_the_dtype_of_their_arguments(reduction_op: str, dtype: Any) -> None:
    given = [t.requires_grad_() for t in sample(dtype)[:2]]
    wide = [t.detach().float().requires_grad_() for t in given]
    operation = genred("torch", "-SqDist(x, y)", ALIASES[:2], reduction_op, axis=1)
    for t in (given, wide):
        operation(*t).backward(torch.ones(40, 1, dtype=t[0].dtype))
    for a, b in zip(given, wide, strict=True):
        assert a.grad.dtype == dtype
        assert torch.equal(a.grad, b.grad.to(dtype))


def test_half_precision_of_numpy() -> None:
    given = arrays("numpy", torch.float16)
    operation = genred("numpy", GAUSSIAN, ALIASES, axis=1)
    result, exact = operation(*given), operation(*(a.astype(np.float32) for a in given))
    assert result.dtype == np.float16
    np.testing.assert_array_equal(result, exact.astype(np.float16))
    out = np.zeros((40, 1), np.float16)
    assert operation(*given, out=out) is out
    np.testing.assert_array_equal(out, result)
    wide = genred("numpy", GAUSSIAN, ALIASES, axis=1, dtype_acc="float32")(*given)
    assert wide.dtype == np.float32
    np.testing.assert_array_equal(wide, exact)


# -- K, weights, names -----------------------------------------------------------------------------


@FACES
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"reduction_op": "KMin"}, ArgumentError, "'KMin' needs opt_arg.*None"),
        ({"reduction_op": "ArgKMin", "opt_arg": 0}, ArgumentError, "from 1 to 4,096, not 0"),
        ({"reduction_op": "KMax", "opt_arg": -2}, ArgumentError, "not -2"),
        ({"reduction_op": "KMax", "opt_arg": 4097}, ArgumentError, "not 4097"),
        (
            {"reduction_op": "KMin", "opt_arg": 2.0},
            ArgumentError,
            "an integer such as opt_arg=10; it is 2.0",
        ),
        (
            {"reduction_op": "KMin", "opt_arg": True},
            ArgumentError,
            "an integer such as opt_arg=10; it is True",
        ),
        (
            {"reduction_op": "KMin", "opt_arg": "3"},
            ArgumentError,
            "an integer such as opt_arg=10; it is '3'",
        ),
        ({"reduction_op": "Max", "opt_arg": 3}, ArgumentError, "opt_arg has no effect.*'Max'"),
        ({"reduction_op": "SoftMax"}, ArgumentError, "'SoftMax' needs formula2"),
        ({"reduction_op": "LogSumExpWeight"}, ArgumentError, "needs formula2"),
        ({"reduction_op": "Mean", "formula2": "w"}, ArgumentError, "formula2 has no effect"),
        ({"reduction_op": "SoftMax", "formula2": "w +"}, FormulaError, r"w \+"),
        ({"reduction_op": "SoftMax", "formula2": "q"}, FormulaError, "q"),
        ({"reduction_op": "Summ"}, FormulaError, "'Summ'; did you mean Sum"),
        (
            {"reduction_op": None},
            ArgumentError,
            'reduction_op must be a string such as "Sum", not None',
        ),
    ],
    ids=str,
)
def test_wrong_k_weights_and_names(
    face: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        genred(face, "x | y", ALIASES, axis=1, **options)


def test_numpy_integers_are_integers() -> None:
    operation = genred("torch", "x | y", ALIASES, "KMin", axis=1, opt_arg=np.int32(3))
    assert operation(*sample()).shape == (40, 3)


def test_weights_may_depend_on_rows() -> None:
    x, y, b, w = sample()
    result = genred("torch", "x | y", ALIASES, "SoftMax", axis=1, formula2="x - y")(x, y, b, w)
    shares = (x @ y.T).softmax(1)
    torch.testing.assert_close(result, x - shares @ y)


@pytest.mark.parametrize("name", ["dtype", "cuda_type"])
@pytest.mark.parametrize(
    "value",
    [
        *("float32", "float64", np.str_("float64"), np.float32, np.float64, None),
        *(np.dtype("f4"), np.dtype("f8"), torch.float32, torch.float64),
    ],
)
def test_a_dtype_is_that_of_the_arguments(name: str, value: object) -> None:
    options: Any = {name: value}
    made = redcomp.numpy.Genred("x", "x = Vi(1)", axis=1, **options)
    for dtype in (np.float32, np.float64):
        x = np.ones((2, 1), dtype)
        if str(value).count("32") == (dtype is np.float32) or value is None:
            assert made(x).dtype == dtype
            continue
        with pytest.raises(ArgumentError, match=r"dtype='float(32|64)': convert the arguments"):
            made(x)


class Disguised:
    """What looks like a dtype in an error."""

    def __repr__(self) -> str:
        return "float32"


@pytest.mark.parametrize("name", ["dtype", "cuda_type"])
@pytest.mark.parametrize(
    "value",
    [
        *("a float32", "float32 float64", "float16", "", ["float32"], {"float64": 1}),
        *(np.zeros(2, np.float32), np.float32(1), np.dtype("3f4"), np.dtype("f4,f4"), np.float16),
        *(torch.zeros(1).double(), torch.float16, Disguised(), ValueError("float64"), 64),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_only_mentions_a_dtype_is_refused(name: str, value: object) -> None:
    options: Any = {name: value}
    with pytest.raises(ArgumentError, match=f"{name} must be 'float32' or 'float64', not"):
        redcomp.numpy.Genred("x", "x = Vi(1)", axis=1, **options)
