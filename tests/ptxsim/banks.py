"""Bank conflicts: how many times more often than needed shared memory is asked for an access.

It has 32 banks of 4 bytes.  A warp's access is answered at once where no bank has to give two
different words: accesses of 4 bytes for all lanes, of 8 bytes for half of them, of 16 bytes for a
quarter of them at a time.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from ptxsim.memory import Hit, Site
from ptxsim.scalars import Array
from ptxsim.threads import WARP, Threads

BANKS = 32
_WORD = 4


class Banks:
    """Wavefronts beyond the least possible, by the instruction's line and text."""

    def __init__(self) -> None:
        self.extra: Counter[tuple[int, str]] = Counter()

    def note(self, site: Site, hit: Hit, threads: Threads, indices: Array) -> None:
        """Count an access of some threads to shared memory."""
        offsets = hit.offsets % hit.region.stride // _WORD  # within the block
        words = offsets[:, None] + np.arange(max(1, site.size // _WORD))
        together = min(WARP, WARP * _WORD // site.size)
        parts = WARP // together
        group = threads.warp[indices] * parts + threads.lane[indices] // together
        asked = np.unique(group[:, None] << 32 | words)
        banks = (asked >> 32) * BANKS + (asked & 0xFFFFFFFF) % BANKS
        times = np.bincount(banks, minlength=BANKS * (int(group.max()) + 1)).reshape(-1, BANKS)
        extra = int(np.maximum(times.max(axis=1) - 1, 0).sum())
        if extra:
            self.extra[site.instruction.line, site.instruction.text] += extra
