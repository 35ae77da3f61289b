"""The results as tables (terminal and Markdown), as JSON and as a picture."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.competitors import COMPETITORS
from benchmarks.measure import Record, Results

ABSENT = "–"
ERRORS = (
    "against float64 and relative to the largest value: of distances where places are wanted, of "
    "the residual where a system is solved"
)
COLOURS = ("tab:red", "tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:pink", "0.5")


@dataclass(frozen=True, slots=True)
class Table:
    """A heading, a sentence on how to read it, column names and rows of text."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def duration(seconds: float) -> str:
    """Three significant digits in the fitting unit."""
    if seconds >= 1:
        value, unit = seconds, "s"
    elif seconds >= 1e-3:
        value, unit = seconds * 1e3, "ms"
    else:
        value, unit = seconds * 1e6, "µs"
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def size(count: float) -> str:
    """Bytes in the fitting decimal unit."""
    if count >= 1e9:
        return f"{count / 1e9:.3g} GB"
    return f"{count / 1e6:.3g} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def tables(results: Results) -> list[Table]:
    """Every table that the results can fill."""
    made = (
        _speed_table(results.speed),
        errors_table(results.speed, _names(results.speed), ERRORS),
        _cases_table(results.speed),
        _compile_table(results.compile),
        _import_table(results.imports),
        _memory_table(results.memory),
        skipped_table(results.skipped),
    )
    return [table for table in made if table.rows]


def _names(records: Iterable[Record]) -> list[str]:
    present = {record["competitor"] for record in records}
    return [row.name for row in COMPETITORS if row.name in present]


def by_case(records: list[Record]) -> dict[str, dict[str, Record]]:
    """The records of each case by competitor."""
    rows: dict[str, dict[str, Record]] = {}
    for record in records:
        rows.setdefault(record["case"], {})[record["competitor"]] = record
    return rows


def _speed_table(records: list[Record]) -> Table:
    names = _names(records)
    rows = []
    for name, row in by_case(records).items():
        first = next(iter(row.values()))
        times = [duration(row[n]["median_s"]) if n in row else ABSENT for n in names]
        target = f"{first['target']:g}" if first["target"] else ABSENT
        rows.append((name, *times, _ratio(row), target))
    header = ("case", *names, "ratio", "target")
    if not any(record["target"] for record in records):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return Table(
        "Speed",
        "Medians of warm calls in interleaved rounds. Ratio: KeOps' time over redcomp's.",
        header,
        tuple(rows),
    )


def errors_table(records: list[Record], names: Sequence[str], of_what: str) -> Table:
    """The error of each competitor in each case."""
    rows = (
        (name, *(f"{row[n]['error']:.0e}" if n in row else ABSENT for n in names))
        for name, row in by_case(records).items()
    )
    note = f"The largest error on a sample of outputs, {of_what}."
    return Table("Errors", note, ("case", *names), tuple(rows))


def _cases_table(records: list[Record]) -> Table:
    titles = {record["case"]: record["title"] for record in records}
    note = (
        "`forward and all gradients` and `backward alone` run through PyTorch's autograd, "
        "the others with NumPy arrays."
    )
    return Table("Cases", note, ("case", "what"), tuple(titles.items()))


def _ratio(row: dict[str, Record]) -> str:
    if "redcomp" not in row or "KeOps" not in row:
        return ABSENT
    return f"{row['KeOps']['median_s'] / row['redcomp']['median_s']:.3g}"


def _compile_table(records: list[Record]) -> Table:
    rows = (
        (r["title"], r["competitor"], *(duration(r[k]) for k in ("import_s", "first_s", "later_s")))
        for r in records
    )
    return Table(
        "A new formula",
        "Fresh process, empty caches: import, first call (it compiles), second call.",
        ("what", "competitor", "import", "first call", "second call"),
        tuple(rows),
    )


def _import_table(records: list[Record]) -> Table:
    rows = ((f"`import {r['module']}`", duration(r["median_s"])) for r in records)
    return Table(
        "Import", "Median of fresh processes, file cache warm.", ("what", "time"), tuple(rows)
    )


def _memory_table(records: list[Record]) -> Table:
    rows = (
        (r["title"], r["competitor"], size(r["above_bytes"]), duration(r["seconds"]))
        for r in records
    )
    return Table(
        "Memory",
        "Peak resident memory of one call, above what the process held before it and the output.",
        ("what", "competitor", "memory", "time"),
        tuple(rows),
    )


def skipped_table(records: list[Record]) -> Table:
    parts: dict[tuple[str, str], list[str]] = {}
    for r in records:
        parts.setdefault((r["competitor"], r["reason"]), []).append(r["part"])
    rows = ((", ".join(names), *why) for why, names in parts.items())
    return Table(
        "Left out", "What was not measured, and why.", ("case", "competitor", "why"), tuple(rows)
    )


def show(tables: Iterable[Table]) -> None:
    """Print tables."""
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console()
    for table in tables:
        drawn = RichTable(title=table.title, caption=table.note.replace("`", ""))
        for position, name in enumerate(table.header):
            is_speed = table.title == "Speed"
            is_right = is_speed and position > 0
            drawn.add_column(name, justify="right" if is_right else "left", no_wrap=is_speed)
        for row in table.rows:
            drawn.add_row(*(cell.replace("`", "") for cell in row))
        console.print(drawn)


def markdown(results: Results, command: str) -> str:
    """A page with the machine, the command and the tables."""
    return page(results.title, [written_by(results.machine, command)], tables(results))


def written_by(machine: Record, command: str) -> str:
    """A sentence on when and where results were measured."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"Written by `{command}` on {machine['date']}: {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['system']}, Python {machine['python']}, {versions}."
    )


def page(title: str, paragraphs: Iterable[str], tables: Iterable[Table]) -> str:
    """Markdown of a heading, paragraphs and tables."""
    lines = [f"# {title}"]
    for paragraph in paragraphs:
        lines += ["", paragraph]
    for table in tables:
        lines += ["", f"## {table.title}", "", table.note, ""]
        lines += [_line(table.header), _line(["---"] * len(table.header))]
        lines += [_line(cell.replace("|", "\\|") for cell in row) for row in table.rows]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def save(results: Results, prefix: Path, command: str) -> list[Path]:
    """Write PREFIX.json, PREFIX.md and, if there are speeds of sweeps, PREFIX.png; their paths."""
    written = write(results, prefix, markdown(results, command))
    drawn = [record for record in results.speed if record["pairs_per_s"]]
    if drawn:
        written.append(_beside(prefix, "png"))
        _draw(drawn, written[-1])
    return written


def write(results: Results, prefix: Path, text: str) -> list[Path]:
    """Write PREFIX.json and PREFIX.md; their paths.  At any time each is complete, or absent."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    data = json.dumps(dataclasses.asdict(results), indent=1, ensure_ascii=False)
    contents = {_beside(prefix, "json"): data + "\n", _beside(prefix, "md"): text}
    for path, content in contents.items():
        new = path.with_name(f"{path.name}.new")
        new.write_text(content, encoding="utf-8")
        new.replace(path)
    return list(contents)


def _beside(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(f"{prefix.name}.{suffix}")


def _draw(records: list[Record], path: Path) -> None:
    """Bars of pairs a second, a group for each case."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = _names(records)
    colours = dict(zip((row.name for row in COMPETITORS), COLOURS, strict=True))
    cases = list(dict.fromkeys(record["case"] for record in records))
    figure, axes = plt.subplots(figsize=(2 + 1.3 * len(cases), 4.5))
    width = 0.8 / len(names)
    for position, name in enumerate(names):
        own = {r["case"]: r["pairs_per_s"] for r in records if r["competitor"] == name}
        places = [cases.index(case) + (position + 0.5) * width - 0.4 for case in own]
        axes.bar(places, list(own.values()), width, label=name, color=colours[name])
    axes.set_yscale("log")
    axes.set_ylabel("pairs per second")
    axes.set_xticks(range(len(cases)), cases, rotation=20, ha="right")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.set_title("Reductions over pairs on the CPU (higher is better)")
    axes.legend(ncols=len(names), loc="upper center", bbox_to_anchor=(0.5, -0.22), frameon=False)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
