"""The threads of a batch of whole blocks."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from ptxsim.scalars import Array

# The threads that an instruction is executed for: their indices in the batch, or, for all of them,
# a slice, which makes copies unnecessary.
Group: TypeAlias = "slice | Array"
ALL = slice(None)

WARP = 32


class Threads:
    """Which threads there are, in arrays with one element a thread, and which still run."""

    def __init__(self, first_block: int, blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self.blocks = blocks  # in this batch
        self.count = blocks * block_size
        self.index = np.arange(self.count)
        self.within = self.index % block_size  # its block
        self.block = self.index // block_size  # counted in this batch
        self.lane = self.within % WARP
        self.warp = self.block * -(-block_size // WARP) + self.within // WARP
        self.number = self.index + first_block * block_size  # in the whole grid
        self.grid_block = self.block + first_block
        self.block_start = self.number - self.within
        self.alive = np.ones(self.count, bool)
        self.alive_in_block = np.full(blocks, block_size)
        self.alive_lanes = self.lane_bits(self.index)

    def lane_bits(self, threads: Array) -> Array:
        """For each warp, the mask of the lanes of some threads."""
        bits = np.bincount(self.warp[threads], 2.0 ** self.lane[threads], int(self.warp[-1]) + 1)
        return bits.astype(np.int64)

    def end(self, threads: Array) -> None:
        """These threads exit."""
        self.alive[threads] = False
        ended = np.bincount(self.block[threads], minlength=self.blocks)
        self.alive_in_block = self.alive_in_block - ended
        self.alive_lanes = self.alive_lanes & ~self.lane_bits(threads)

    def name(self, number: int) -> str:
        """A thread of the grid, in words."""
        block, within = divmod(number, self.block_size)
        return f"thread {within} of block {block}"

    def who(self, index: int) -> str:
        """A thread of the batch, in words."""
        return self.name(int(self.number[index]))
