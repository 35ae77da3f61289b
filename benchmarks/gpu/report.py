"""The results of a run on a GPU as tables."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.gpu.competitors import GPU_COMPETITORS, KEOPS, REDCOMP
from benchmarks.gpu.targets import verdicts
from benchmarks.measure import Record, Results
from benchmarks.report import (
    ABSENT,
    Table,
    by_case,
    duration,
    errors_table,
    page,
    skipped_table,
    written_by,
)

ERRORS = (
    "against float64 on the host and relative to the largest value: of distances where places are "
    "wanted"
)

# Names of the pipes for readers who know the hardware.
PIPES = {"fma": "FP32", "xu": "MUFU", "alu": "ALU", "fp64": "FP64", "lsu": "LSU", "issue": "issue"}


def tables(results: Results) -> list[Table]:
    """Every table that the results can fill."""
    made = (
        _speed_table(results.speed),
        _shares_table(results.speed),
        _busy_table(results.speed),
        _startup_table(results.compile),
        _launches_table(results.launches),
        _targets_table(results),
        errors_table(results.speed, _names(results.speed), ERRORS),
        _cases_table(results.speed),
        skipped_table(results.skipped),
    )
    return [table for table in made if table.rows]


def markdown(results: Results, command: str) -> str:
    """A page with the device, the command and the tables."""
    paragraphs = [written_by(results.machine, command), _device(results.device)]
    return page(results.title, paragraphs, tables(results))


def _device(device: Record) -> str:
    """A paragraph on the GPU and how its clocks ran."""
    known = [device["name"], device["target"], f"{device['processors']} multiprocessors"]
    known.append(f"CUDA {device['cuda']} of PyTorch")
    if device["driver"]:
        known.append(f"driver {device['driver']}")
    if device["largest_clock"]:
        known.append(f"clock at most {device['largest_clock'] / 1e6:.0f} MHz")
    text = f"The GPU: {', '.join(known)}."
    if "clock_mhz" not in device:
        return f"{text} How its clocks ran is not known."
    low, median, high = device["clock_mhz"]
    return (
        f"{text} Under load its clock was {low:.0f} to {high:.0f} MHz, with a median of "
        f"{median:.0f} MHz in {device['samples']} samples; at most {device['hottest_c']:.0f} °C "
        f"and {device['most_w']:.0f} W."
    )


def _names(records: Sequence[Record]) -> list[str]:
    present = {record["competitor"] for record in records}
    return [row.name for row in GPU_COMPETITORS if row.name in present]


def _speed_table(records: list[Record]) -> Table:
    names = _names(records)
    rows = []
    for name, row in by_case(records).items():
        times = [duration(row[n]["median_s"]) if n in row else ABSENT for n in names]
        rows.append((name, *times, _ratio(row)))
    return Table(
        "Speed",
        "Medians of warm calls in interleaved rounds, by events of the device's own clock; the "
        "JSON file has the quartiles. Ratio: KeOps' time over redcomp's. `redcomp in a graph` "
        "replays recorded launches, so that what calls cost the host is not in it.",
        ("case", *names, "ratio"),
        tuple(rows),
    )


def _ratio(row: dict[str, Record]) -> str:
    if REDCOMP not in row or KEOPS not in row:
        return ABSENT
    return f"{row[KEOPS]['median_s'] / row[REDCOMP]['median_s']:.3g}"


def _percent(share: float | None) -> str:
    return ABSENT if share is None else f"{share:.0%}"


def _shares_table(records: list[Record]) -> Table:
    names = _names(records)
    rows = []
    for name, row in by_case(records).items():
        limits = {PIPES[record["limit"]] for record in row.values() if record["limit"]}
        if limits:
            shares = [_percent(row[n]["share"]) if n in row else ABSENT for n in names]
            rows.append((name, *limits, *shares))
    return Table(
        "Share of the hardware's ceiling",
        "Pairs a second, of what the multiprocessors can do at their largest clock with nothing "
        "but the arithmetic of the formula as it is written; limit: the pipe that allows least "
        "(MUFU: exponentials; issue: four instructions a clock). Products of matrices on tensor "
        "cores can be above 100 %.",
        ("case", "limit", *names),
        tuple(rows),
    )


def _busy_table(records: list[Record]) -> Table:
    rows = [
        (
            record["case"],
            duration(record["median_s"]),
            *(_percent(record["busy"][pipe]) for pipe in PIPES),
        )
        for record in records
        if record["busy"]
    ]
    return Table(
        "How busy redcomp keeps each pipe",
        "From the instructions in the disassembly of its loop over pairs: the part of the measured "
        "time that they take at least, at the largest clock.",
        ("case", "time", *PIPES.values()),
        tuple(rows),
    )


def _startup_table(records: list[Record]) -> Table:
    rows = (
        (
            r["competitor"],
            r["caches"],
            *(duration(r[k]) for k in ("import_s", "first_s", "later_s")),
        )
        for r in records
    )
    return Table(
        "A new formula",
        "Fresh process, with empty caches and then with what the first process left there; PyTorch "
        "and the device have been started before. The first call builds and compiles; Triton's "
        "also tries its block shapes.",
        ("competitor", "caches", "import", "first call", "second call"),
        tuple(rows),
    )


def _launches_table(records: list[Record]) -> Table:
    rows = ((r["competitor"], duration(r["median_s"]), duration(r["smallest_s"])) for r in records)
    what = records[0]["title"] if records else ""
    return Table(
        "What a warm call costs the host",
        f"Time on the host of each of many calls in a row without waiting: {what}.",
        ("competitor", "median", "smallest"),
        tuple(rows),
    )


def _targets_table(results: Results) -> Table:
    rows = tuple(verdict.cells for verdict in verdicts(results))
    return Table("Targets", "What redcomp is to reach.", ("what", "target", "found", ""), rows)


def _cases_table(records: list[Record]) -> Table:
    titles = {record["case"]: record["title"] for record in records}
    return Table("Cases", "Inputs are uniform in [0, 1).", ("case", "what"), tuple(titles.items()))
