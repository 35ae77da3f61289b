"""Where everything is in memory: packed rows and columns, a worker's scratch."""

from __future__ import annotations

from redcomp.abi import ALIGNMENT
from redcomp.ir import SIZES, Nest
from redcomp.llvm_backend.host.schedule import Schedule, loops_of, pending_entries
from redcomp.llvm_backend.records import PAIR_KINDS, ROW_KINDS, Record, in_memory, variables_of


class WorkerLayout:
    """The records of a nest and the parts of the scratch memory of one worker."""

    def __init__(self, nest: Nest, schedule: Schedule) -> None:
        row_roots = (*nest.pair_variables, *(h.definition for h in nest.rows))
        column_roots = (*nest.pair_variables, *(h.definition for h in nest.columns))
        hoisted = {h.variable for h in nest.rows + nest.columns + nest.uniform}
        self.raw_rows = [v for v in variables_of(row_roots, *ROW_KINDS) if v not in hoisted]
        self.raw_columns = [v for v in variables_of(column_roots, "j") if v not in hoisted]
        self.rows = Record.of([*self.raw_rows, *(h.variable for h in nest.rows)])
        self.numbers = variables_of(column_roots, "column", "j_index")
        hoisted_columns = (h.variable for h in nest.columns)
        self.columns = Record.of([*self.raw_columns, *self.numbers, *hoisted_columns])
        self.pairs = Record.of(variables_of(nest.pair_variables, *PAIR_KINDS))
        self.totals = Record.of(state.total for state in nest.states)
        self.others = Record.of(state.other for state in nest.states)
        self.states = Record.of(in_memory(nest))
        self.result_inputs = Record.of(variables_of(nest.results, *ROW_KINDS))
        self.result_bytes = max(result.dim * SIZES[result.dtype] for result in nest.results)
        self.loops = loops_of(nest)
        waiting = (len(pending_entries(loop)) for loop in self.loops)
        self.pending_entries = max(waiting) if schedule.pending else 0
        self.total_bytes = self.totals.width * schedule.lanes * SIZES[nest.accumulator]
        self._lay_out(schedule, SIZES[nest.dtype])

    def _lay_out(self, schedule: Schedule, size: int) -> None:
        vector = schedule.lanes * size
        self.states_bytes = self.states.width * schedule.rows * vector
        # The slots, one more for spreading vectors, and the counts (see `pending`).
        pending = (schedule.pending + 1) * self.pending_entries * vector + schedule.lanes * 8
        sizes = {
            "rows": schedule.chunk * self.rows.width * vector,
            "totals": schedule.chunk * self.total_bytes,
            # Columns are prepared by whole vectors, so the last tile may run over by one.
            "columns": (schedule.tile + schedule.lanes) * self.columns.width * size,
            "column_lanes": self.columns.width * vector,
            "pairs": schedule.tile * schedule.rows * self.pairs.width * vector,
            "states": self.states_bytes + pending,
            "result_inputs": self.result_inputs.width * vector,
            "results": self.result_bytes * schedule.lanes,
        }
        self.scratch: dict[str, int] = {}
        self.scratch_bytes = 0
        for name, bytes_ in sizes.items():
            self.scratch[name] = self.scratch_bytes
            self.scratch_bytes += -(-bytes_ // ALIGNMENT) * ALIGNMENT
