"""Programs over LazyTensors, for the table of what KeOps makes of them: needs PyTorch.

`scripts/keops_lazy_tensors.py` runs them with KeOps, `test_lazy_table.py` with redcomp and with
`dense_lazy.Dense`. A program is an expression of a lazy tensor `K`, and what is then computed from
`K`, as `lazy_cases.py` lists them. Both are Python over the arrays of `SHAPES`, over the lazy
tensors `x_i`, `y_j`, ... of the arrays `x`, `y`, ..., and over what a library offers.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from dense_lazy import Dense, Pm, Vi, Vj

M, N, D = 5, 4, 3

SHAPES: dict[str, tuple[int, ...]] = {
    # Indexed by i.
    "x": (M, 1, D),
    "x2": (M, 1, D),
    "u": (M, 1, 1),
    "a": (M, 1, 9),
    "k": (M, 1, 6),
    # Indexed by j.
    "y": (1, N, D),
    "y2": (1, N, D),
    "v": (1, N, 1),
    "w": (1, N, 2),
    "b": (1, N, 9),
    # Parameters.
    "p": (D,),
    "s": (1,),
    "q": (9,),
    "number": (),
    "p3": (1, 1, D),
    # Rows without the axis of the other index.
    "rows": (M, D),
    "columns": (N, D),
    "row_weights": (M, 1),
    # Right-hand sides.
    "f": (N,),
    "ff": (N, 2),
    "g": (M,),
    "gg": (M, 2),
    # One row or column.
    "x1": (1, 1, D),
    "y1": (1, 1, D),
    "row": (1, D),
    # Batches.
    "bx": (2, M, 1, D),
    "cx": (1, M, 1, D),
    "by": (2, 1, N, D),
    "cy": (1, 1, N, D),
    "bp": (2, 1, 1, D),
    "cp": (1, 1, 1, D),
    "bs": (2, 1, 1, 1),
    "bv": (2, 1, N, 1),
    "bw": (2, 1, N, 2),
    "bff": (2, N, 2),
    "cff": (1, N, 2),
    "dx": (2, 1, M, 1, D),
    "dy": (1, 3, 1, N, D),
    "ey": (3, 1, N, D),
    "dff": (2, 3, N, 2),
    "bx1": (2, 3, 1, 1, D),
    "by1": (2, 1, 1, N, D),
    # Complex numbers.
    "zx": (M, 1, D),
    "zy": (1, N, D),
    "zu": (M, 1, 1),
    "zv": (1, N, 1),
    "zp": (D,),
    "bzx": (2, M, 1, D),
}


def array(name: str, dtype: str = "float64") -> Any:
    """Multiples of 1/8 between -1 and 1, so that there are ties, and no type rounds them."""
    numbers = np.random.default_rng(zlib.crc32(name.encode()))
    values = numbers.integers(-8, 9, SHAPES[name]) / 8.0
    if "z" not in name:
        return values.astype(dtype)
    complex_dtype = "complex64" if dtype == "float32" else "complex128"
    return (values + 1j * numbers.integers(-8, 9, SHAPES[name]) / 8.0).astype(complex_dtype)


# Which blocks of a matrix are kept, of rows 0..1 and 2..4, and columns 0..2 and 3.
ROW_BLOCKS = ((0, 2), (2, M))
COLUMN_BLOCKS = ((0, 3), (3, N))
KEPT = ((True, False), (True, True))
KEPT_ROW = ((False, False), (True, True))


@dataclass
class Library:
    """What a program sees of pykeops or redcomp, with NumPy or PyTorch, or of `Dense`."""

    offered: dict[str, Any]
    given: Callable[[Any], Any] = field(default=lambda values: values)

    def run(self, lazy: str, reduced: str, dtype: str) -> tuple[Any, list[Any]]:
        """K, and the arrays that are computed from it."""
        names = Names(self, dtype)
        names["K"] = eval(lazy, {}, names)
        results = eval(reduced, {}, names)
        return names["K"], list(results) if isinstance(results, tuple) else [results]


class Names(dict[str, Any]):
    """The names of a program, each made when it is first used."""

    def __init__(self, library: Library, dtype: str) -> None:
        super().__init__(library.offered)
        self.library, self.dtype = library, dtype

    def __missing__(self, name: str) -> Any:
        base, _, index = name.rpartition("_")
        if index in ("i", "j", "p") and base in SHAPES:
            self[name] = self["LazyTensor"](self[base])
        elif name in SHAPES:
            self[name] = self.library.given(array(name, self.dtype))
        else:
            raise KeyError(name)
        return self[name]


def offered_by(package: Any, as_tensors: bool) -> Library:
    """The library in `package`, which is `pykeops.torch`, `redcomp.numpy` or one like them."""
    names = ("LazyTensor", "ComplexLazyTensor", "Vi", "Vj", "Pm")

    def with_ranges(lazy: Any, kept: Any) -> Any:
        blocks = [np.array(each) for each in (ROW_BLOCKS, COLUMN_BLOCKS, kept)]
        given = map(torch.as_tensor, blocks) if as_tensors else iter(blocks)
        lazy.ranges = package.cluster.from_matrix(*given)
        return lazy

    offered = {name: getattr(package, name) for name in names if hasattr(package, name)}
    offered |= {"with_ranges": with_ranges, "KEPT": KEPT, "KEPT_ROW": KEPT_ROW}
    return Library(offered, torch.as_tensor if as_tensors else lambda values: values)


def dense_library() -> Library:
    """`Dense` under the names of a library."""

    def with_ranges(lazy: Dense, kept: Any) -> Dense:
        counts = [[end - start for start, end in each] for each in (ROW_BLOCKS, COLUMN_BLOCKS)]
        lazy.kept = np.repeat(np.repeat(np.array(kept), counts[0], 0), counts[1], 1)
        return lazy

    return Library(
        {"LazyTensor": Dense, "ComplexLazyTensor": Dense, "Vi": Vi, "Vj": Vj, "Pm": Pm}
        | {"with_ranges": with_ranges, "KEPT": KEPT, "KEPT_ROW": KEPT_ROW}
    )


def described(lazy: Any) -> dict[str, Any]:
    """What a lazy tensor says of its shape."""
    return {
        "shape": list(lazy.shape),
        "_shape": list(lazy._shape),
        "dim": lazy.dim(),
        "ndim": lazy.ndim,
        "nbatchdims": lazy.nbatchdims,
        "ni": lazy.ni,
        "nj": lazy.nj,
        "dtype": lazy.dtype,
    }
