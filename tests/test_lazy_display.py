"""How LazyTensors are shown: needs no backend but for arrays."""

from __future__ import annotations

import numpy as np
import pytest

from redcomp.errors import ArgumentError
from redcomp.frontend.lazy.display import size
from redcomp.numpy import LazyTensor, Vi, Vj


def test_text_says_what_is_saved_and_how_to_compute() -> None:
    x, y = np.ones((20_000, 3), np.float32), np.ones((50_000, 3), np.float32)
    text = repr((-Vi(x).sqdist(Vj(y))).exp())
    assert "(20000, 50000)" in text
    assert "float32" in text
    assert "Exp(-SqDist(x0, y1))" in text
    assert "x0 = Vi(0, 3), y1 = Vj(1, 3)" in text
    assert "840 KB of variables; the array would take 4 GB" in text
    assert ".sum(axis=1)" in text
    assert ".dense()" in text


def test_text_of_symbols_and_numbers() -> None:
    text = repr(Vi(0, 3) * 2)
    assert "memory" not in text
    assert "call the result" in text
    assert "that of the arrays it will meet" in text
    assert "variables:  none" in repr(LazyTensor(2))


def test_notebooks_show_a_table() -> None:
    html = (Vi(np.ones((4, 1))) < Vj(np.ones((5, 1))))._repr_html_()
    assert html.startswith("<table>")
    assert html.endswith("</table>")
    assert "x0 &lt; y1" in html
    assert "160 bytes" in html


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 KB"),
        (1_234_567, "1.23 MB"),
        (999_999, "1 MB"),
        (10**12, "1 TB"),
        (10**22, "1e+04 EB"),
    ],
)
def test_sizes_have_three_digits(count: int, text: str) -> None:
    assert size(count) == text


def test_reductions_that_are_called_later_are_a_table_in_notebooks() -> None:
    later = (Vi(np.ones((4, 2), np.float32)) | Vj(0, 2)).sum(axis=1)
    html = later._repr_html_()
    for text in (
        "<table>",
        "Sum over j of",
        "x0 = Vi(0, 2), y1 = Vj(1, 2)",
        "float32",
        "with 1 array",
    ):
        assert text in html
    assert "call it<" in Vi(np.ones((4, 2))).sum(axis=1, call=False)._repr_html_()


def test_reductions_that_are_called_later_show_their_compilation() -> None:
    x = np.ones((4, 2), np.float64)
    distance = ((Vi(x) - Vj(x)) ** 2).sum(-1)
    kernel = (-distance).exp()
    later = kernel.sum(axis=1, call=False, keepdim=True)
    assert "vfmadd" in later.lower(target="avx2").asm
    assert ".visible .entry" in later.lower("float32", target="sm_90").ptx
    assert ", f64\n" in later.explain(target="avx2")
    assert "Exp(" in later.view(target="avx2").html
    exact = distance.logsumexp(axis=1, call=False, use_fast_math=True)
    assert exact.lower().context.options.use_fast_math
    symbols = (Vi(0, 3) - Vj(1, 3)).sum(axis=1)
    assert symbols.lower().nest.dtype == "f32"
    with pytest.raises(ArgumentError, match="target"):
        later.view(target="sm90")
    with pytest.raises(ArgumentError, match="several reductions"):
        kernel.solve(np.ones((4, 1)), call=False).lower()
