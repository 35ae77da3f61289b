"""Schedules: how a nest of loops is laid out on a host.  Data: printed, and overridable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from redcomp.ir import I_BIT, J_BIT, Nest, topological
from redcomp.llvm_backend.target import Target

SIZES = {"f32": 4, "f64": 8}

# What a thread works on at a time should fit into the second-level cache with the tile of columns.
_CHUNK_BYTES = 256 * 1024
_TILE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Schedule:
    """Layout of the loops.

    lanes    rows i in a vector
    rows     vectors of rows that a step of the pair loop holds in registers
    cols     columns j that a step holds
    tile     columns prepared at a time; partial sums are merged into totals after each
    chunk    vectors of rows that a task holds, at most; a multiple of `rows`
    """

    lanes: int
    rows: int
    cols: int
    tile: int
    chunk: int

    def __str__(self) -> str:
        return (
            f"{self.lanes} lanes, a step of {self.rows} x {self.cols} (vectors of rows x columns), "
            f"tiles of {self.tile} columns, at most {self.chunk} vectors of rows a task"
        )


# Blocks of rows x columns, best first, measured on an AVX-512 machine (benchmarks/schedules.py).
# With a loop over components, a block is to reuse what it loads; otherwise, to hide latencies.
_LOOP_BLOCKS = ((5, 4), (4, 3), (3, 3), (3, 2), (2, 2), (2, 1), (1, 1))
_BLOCKS = ((4, 2), (2, 2), (1, 2))
# A result that is a long vector lives in memory; more columns a step mean fewer passes over it.
_VECTOR_STATE_BLOCK = (1, 8)


def choose_schedule(nest: Nest, dtype: str, target: Target) -> Schedule:
    """The schedule for a nest: from the counts of its values, nothing measured."""
    lanes = target.lanes(dtype)
    folds = sum(
        value.op == "fold" and value.dependence == I_BIT | J_BIT
        for value in topological(nest.steps)
    )
    if any(state.dim > 1 for state in nest.states):
        rows, cols = _VECTOR_STATE_BLOCK
    elif folds:
        rows, cols = _largest(_LOOP_BLOCKS, lambda r, c: r * c * folds + r + 3, target.registers)
    else:
        # Constants and temporaries take about two thirds; inputs can stay in memory.
        states = len(nest.states)
        rows, cols = _largest(_BLOCKS, lambda r, c: r * states, target.registers * 3 // 8)
    row_bytes = lanes * (_width(nest, "i") * SIZES[dtype] + sum(t.dim for t in nest.totals) * 8)
    chunk = max(1, _CHUNK_BYTES // max(1, row_bytes))
    return Schedule(lanes, rows, cols, _tile(nest, dtype), max(rows, chunk - chunk % rows))


def _largest(
    blocks: tuple[tuple[int, int], ...], registers: Callable[[int, int], int], limit: int
) -> tuple[int, int]:
    """The first block that needs no more registers than there are, or the last one."""
    return next((b for b in blocks if registers(*b) < limit), blocks[-1])


def _tile(nest: Nest, dtype: str) -> int:
    """Columns a tile: enough to amortise a tile's start, few enough to stay in the cache."""
    a_column = max(1, _width(nest, "j")) * SIZES[dtype]
    columns = _TILE_BYTES // a_column
    return max(32, min(256, columns - columns % 32))


def _width(nest: Nest, kind: str) -> int:
    """Components of one record of row or column inputs."""
    bit = I_BIT if kind == "i" else J_BIT
    seen = {id(v): v for v in topological(nest.roots) if v.op == "variable"}
    return sum(v.dim for v in seen.values() if v["kind"] == kind and v.dependence == bit)
