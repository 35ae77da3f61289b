"""Wrong calls of LazyTensors' methods, and what LazyTensors have not: needs PyTorch, the CPU.

Whatever is wrong is an error of redcomp's own, which names the method or the argument.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import redcomp.numpy
import redcomp.torch
from redcomp.errors import ArgumentError, KeywordError, RedcompError
from redcomp.frontend.lazy.missing import ADVICE

LIBRARIES = ("numpy", "torch")
pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::redcomp.errors.ConvergenceWarning"),
]


def lazy(library: str, is_complex: bool = False, is_scalar: bool = True) -> Any:
    """(4, 5), or (4, 5, 3) of vectors."""
    module = getattr(redcomp, library)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(4, 3)), random.normal(size=(5, 3))
    made = [a + 1j if is_complex else a for a in (x, y)]
    given = made if library == "numpy" else map(torch.tensor, made)
    x_i, y_j = (make(a) for make, a in zip((module.Vi, module.Vj), given, strict=True))
    return (x_i * y_j).sum(-1) if is_scalar else x_i * y_j


WRONG = {
    "None": None,
    "a text": "text",
    "an object": object(),
    "an array": np.ones((2, 7, 3, 2, 2)),
    "a tensor": torch.ones(2, 7, 3, 2, 2),
}


def wrong_calls(method: Any, made: Any, wrong: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Positional and named arguments that no method takes, or few do."""
    yield (wrong,), {}
    yield (made, wrong), {}
    yield (1, wrong, wrong), {}
    for name in inspect.signature(method).parameters:
        yield (), {name: wrong}


def methods_of(made: Any) -> Iterator[tuple[str, Any]]:
    """The methods by name, each once."""
    known = set()
    for name in dir(type(made)):
        method = None if name.startswith("_") else getattr(made, name)
        function = getattr(method, "__func__", method)
        if callable(method) and function not in known:
            known.add(function)
            yield name, method


@pytest.mark.sampled(42)
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("is_scalar", [False, True], ids=["vectors", "scalars"])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_calls_raise_errors_of_redcomp(
    library: str, is_complex: bool, is_scalar: bool, wrong: str
) -> None:
    made = lazy(library, is_complex, is_scalar)
    for _, method in methods_of(made):
        for given, named in [((), {}), *wrong_calls(method, made, WRONG[wrong])]:
            with contextlib.suppress(RedcompError):
                method(*given, **named)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
def test_unknown_and_too_many_arguments_are_errors(library: str, is_complex: bool) -> None:
    made = lazy(library, is_complex)
    for name, method in methods_of(made):
        with pytest.raises(RedcompError) as caught:
            method(nonsense=1)
        if not is_complex:
            parameters = inspect.signature(method).parameters.values()
            required = [p.name for p in parameters if p.default is p.empty]
            message = str(caught.value)
            names = "|".join(["nonsense", "axis", method.__name__, *required])
            assert re.search(names, message), (name, message)
        with pytest.raises(RedcompError):
            method(*[made] * 13)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda K: K.argKmin(axis=1), KeywordError, r"Kmin\(K, axis.*missing.*'K'"),
        (lambda K: K.argKmin("3", axis=1), ArgumentError, "K must be an integer, not '3'"),
        (lambda K: K.ifelse(1), KeywordError, r"ifelse\(other1, other2\).*missing.*'other2'"),
        (lambda K: K.ifelse(None, 1), ArgumentError, "operand 2 of IfElse.*not of None"),
        (lambda K: K.exp(2), KeywordError, r"exp\(\): too many"),
        (lambda K: K.exp(axis=2), KeywordError, "exp has no argument 'axis'; it takes none"),
        (lambda K: K.clamp(mn=2), KeywordError, "clamp has no argument 'mn'; did you mean min"),
        (lambda K: K.power(None), ArgumentError, "operand 2 of power.*not of None"),
        (lambda K: K.greater("a"), ArgumentError, "operand 2 of >.*not of 'a'"),
        (lambda K: K.elem(), KeywordError, "elem takes i, not 0 arguments"),
        (lambda K: K.sum(1, 0), KeywordError, "axis and dim are two names"),
        (lambda K: K.sum(1, 1, 1), KeywordError, "sum.*too many"),
        (lambda K: K.reduction(K), ArgumentError, "reduction_op must be a string"),
        (lambda K: K.solve(None), ArgumentError, "the right-hand side.*not of None"),
        (lambda K: K.sumsoftmaxweight("a", 1), ArgumentError, "the weights.*not of 'a'"),
        (lambda K: K.matmul(None), ArgumentError, "the right-hand side.*not None"),
        (lambda K: K.matmul(), KeywordError, r"matmul\(v.*missing.*'v'"),
        (lambda K: K.topk(axis=1), KeywordError, r"topk\(k.*missing.*'k'"),
        (lambda K: K.softmax(1), ArgumentError, "sumsoftmaxweight"),
        (lambda K: type(K)(K, 1, False, 3), KeywordError, "^LazyTensor.*too many"),
        (lambda K: type(K)(K, is_complex="a"), ArgumentError, "is_complex must be True or False"),
        (lambda K: redcomp.numpy.Vi(), KeywordError, r"Vi\(x_or_ind, dim=None\).*'x_or_ind'"),
    ],
)
def test_messages(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(lazy("numpy"))


def test_errors_within_methods_stay_what_they_are() -> None:
    """A TypeError of a program's own function is no complaint about the call."""

    class Stubborn:
        def __index__(self) -> int:
            raise TypeError("mine")

    with pytest.raises(ArgumentError, match="K must be"):
        lazy("numpy").Kmin(Stubborn(), axis=1)
    with pytest.raises(TypeError, match="no single number"):
        lazy("numpy").__float__()


# -- what LazyTensors do not have ------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
def test_advice_is_given_for_what_is_not_there(library: str) -> None:
    made = lazy(library)
    for each in (made, lazy(library, is_complex=True), made @ made.t()):
        present = [name for name in ADVICE if name in dir(type(each))]
        assert not present, f"{type(each).__name__} has {present}: take them out of ADVICE"
    for name, advice in ADVICE.items():
        with pytest.raises(AttributeError) as caught:
            getattr(made, name)
        assert str(caught.value) == f"'LazyTensor' object has no attribute {name!r}: {advice}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("reshape", "arrange the arrays"),
        ("sort", r"Kmin\(K, axis\)"),
        ("cumsum", r"\.dense\(\)\.cumsum"),
        ("exp_", r"\.exp\(\.\.\.\) gives another one"),
        ("argkmn", "did you mean argKmin"),
        ("zzzzzz", r"\.dense\(\) gives the array"),
        ("__array_interface__", "'LazyTensor' object has no attribute '__array_interface__'$"),
    ],
)
def test_what_is_missing_says_what_to_do(name: str, message: str) -> None:
    made = lazy("torch")
    assert not hasattr(made, name)
    assert getattr(made, name, 3) == 3
    with pytest.raises(AttributeError, match=message):
        getattr(made, name)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("library", LIBRARIES)
def test_topk_is_that_of_pytorch(library: str) -> None:
    made = lazy(library)
    dense = torch.tensor(np.asarray(made.dense()))
    for axis, largest in itertools.product((0, 1), (True, False)):
        values, places = dense.topk(2, axis, largest)
        found = made.topk(2, dim=axis, largest=largest)
        rows_first = (v.T if axis == 0 else v for v in (values, places))
        for ours, theirs in zip(found, rows_first, strict=True):
            np.testing.assert_allclose(np.asarray(ours), theirs.numpy(), 1e-12)
    with pytest.raises(ArgumentError, match="axis is missing"):
        made.topk(2)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("is_whole", [True, False])
def test_missing_attributes_in_compiled_programs(is_whole: bool) -> None:
    from_outside = lazy("torch")

    def program(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        made = redcomp.torch.Vi(x) * redcomp.torch.Vj(y)
        found = getattr(made, "reshape", made).sum(1)
        if hasattr(made, "view") or hasattr(from_outside, "cumsum"):
            return found
        try:
            made.cpu()
        except AttributeError:
            return found + getattr(from_outside, "numpy", 1)
        return found

    x, y = torch.rand(4, 3), torch.rand(5, 3)
    compiled = torch.compile(program, fullgraph=is_whole, backend="eager")
    torch.testing.assert_close(compiled(x, y), program(x, y))


def test_a_compiled_program_says_what_is_missing() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = (redcomp.torch.Vi(x) * redcomp.torch.Vj(x)).reshape(3)
        return found

    with pytest.raises(AttributeError, match="arrange the arrays"):
        torch.compile(program, backend="eager")(torch.rand(4, 3))
