"""Schedules: how a nest of loops is laid out on a host.  A schedule is data, printed and overridable."""

from __future__ import annotations

from dataclasses import dataclass

from redcomp.ir import I_BIT, J_BIT, Nest, Value, topological
from redcomp.llvm_backend.target import Target
from redcomp.passes.expand import STRUCTURAL

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


def choose_schedule(nest: Nest, dtype: str, target: Target) -> Schedule:
    """The schedule for a nest: from the counts of its values, nothing measured."""
    lanes = target.lanes(dtype)
    values = list(topological(nest.steps))
    has_loop = any(value.op == "fold" for value in values)
    has_vector_state = any(state.dim > 1 for state in nest.states)
    if has_vector_state:
        rows, cols = 1, 8
    elif has_loop:
        rows, cols = 4, 4
    else:
        rows, cols = _rows_in_registers(nest, values, target), 1
    tile = _tile(nest, dtype)
    size = SIZES[dtype]
    row_bytes = lanes * (_width(nest, "i") * size + sum(t.dim for t in nest.totals) * 8)
    blocks = max(1, _CHUNK_BYTES // max(1, row_bytes))
    return Schedule(lanes, rows, cols, tile, max(rows, blocks - blocks % rows))


def _rows_in_registers(nest: Nest, values: list[Value], target: Target) -> int:
    """As many rows as the registers hold: a row needs its inputs, its states and a few temporaries."""
    inputs = sum(
        value.op in ("component", "variable") and value.dependence == I_BIT and value.dim == 1
        for value in values
    )
    heavy = sum(value.op not in STRUCTURAL for value in values)
    a_row = inputs + len(nest.states) + (2 if heavy > 8 else 1)
    constants = min(8, target.registers // 4)
    fitting = (target.registers - constants) // max(1, a_row)
    return 4 if fitting >= 4 else 2 if fitting >= 2 else 1


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
