"""What the kernels of all targets have in common: how they are called, and on which arrays."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Protocol

import numpy as np

from redcomp.records import record
from redcomp.runtime.device import Device
from redcomp.runtime.tasks import Blocks, Integers


@record
class BatchLayout:
    """Where the entries of a batch have their parts of a call's arrays, outputs first.

    rows         of each entry's outputs
    second_axis  vectors on the second axis of arrays of pairs
    batch        the batch's dimensions
    own          of each array, the dimensions of the batch that it has, which broadcast to all
    steps        of each array, the bytes of an entry
    """

    rows: int
    second_axis: int
    batch: tuple[int, ...] = ()
    own: tuple[tuple[int, ...], ...] = ()
    steps: tuple[int, ...] = ()

    def offsets(self) -> Integers | None:
        """(entries, arrays): the bytes to each entry's part of each array; None without a batch."""
        if not self.batch:
            return None
        columns = [
            np.broadcast_to(step * np.arange(prod(own), dtype=np.int64).reshape(own), self.batch)
            for own, step in zip(self.own, self.steps, strict=True)
        ]
        return np.stack([column.ravel() for column in columns], axis=1)

    @property
    def sizes(self) -> list[int]:
        """The bytes of each array."""
        return [prod(own) * step for own, step in zip(self.own, self.steps, strict=True)]


# Of a call without a batch and without arrays of pairs, whose arrays nobody has to copy.
PLAIN = BatchLayout(0, 0)


class Executor(Protocol):
    """What runs kernels on a device, and how they get at the arrays: a queue, or with copies."""

    @property
    def device(self) -> Device:
        """The device."""


class LoadedKernel(Protocol):
    """Machine code that can be called."""

    def __call__(
        self,
        blocks: Blocks,
        outputs: Sequence[int],
        arguments: Sequence[int],
        layout: BatchLayout = PLAIN,
        executor: Executor | None = None,
        /,
    ) -> None:
        """Compute the rows of all blocks, which every entry of a batch has.

        Outputs and arguments are addresses of contiguous arrays, which have been checked.  Without
        an executor they are the host's, and so is the machine code.
        """
