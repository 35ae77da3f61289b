"""The table of shapes that KeOps takes, and of what redcomp makes of them: needs pykeops 2.3.

    python scripts/keops_shapes.py        writes tests/keops_shapes.json

Each case has the shapes in which a program's arguments come (null is a number), the full shapes
that stand for the same values (null where redcomp refuses the case), the shape of the result, and
what KeOps does with it: "same" as the dense computation, or what else.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # OpenMP's threads hang in forked processes

import pykeops
import pykeops.numpy
import pykeops.torch
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from shape_programs import PROGRAMS, Program, Shape, arguments, given_as  # noqa: E402

M, N = 5, 4
PATIENCE = 60  # seconds: it compiles a formula in some
BATCHES: tuple[Shape, ...] = ((), (3,), (2, 3))
# A shape that is given, and the full shape that it stands for.
Form = tuple[Shape | None, Shape]


def forms(what: str, batch: Shape, rows: dict[str, int]) -> Iterator[Form]:
    """The shapes in which an argument of a batch may come, the full one first."""
    kind, dim = what[:2], int(what[3:-1])
    own = (dim,) if kind == "Pm" else (rows[kind], dim)
    # With all axes of the batch, with ones in their place, and without them.
    for leading in dict.fromkeys((batch, (1,) * len(batch), ())):
        full = (*leading, *own)
        yield full, full
        if kind == "Pm":
            if len(leading) == len(batch):
                yield (*leading, 1, dim), full
            yield (*leading, dim, 1), full
        if dim == 1:
            yield full[:-1], full
    if kind == "Pm" and dim == 1:
        yield None, (1,)


def one_at_a_time(name: str, program: Program, batch: Shape) -> Iterator[dict[str, Any]]:
    """Each argument in each of its forms, the others in full."""
    rows = {"Vi": M, "Vj": M if program.unknown else N}
    kinds = list(program.variables.values())
    full = [(*batch, *next(forms(what, (), rows))[0]) for what in kinds]
    for place, what in enumerate(kinds):
        for shape, meant in forms(what, batch, rows):
            if program.unknown and place == 1:
                continue  # the points are one array
            given, means = list(full), list(full)
            given[place], means[place] = shape, meant
            if program.unknown:
                given[1], means[1] = given[0], means[0]
            yield case(name, given, means)


def all_alike(name: str, program: Program, batch: Shape) -> Iterator[dict[str, Any]]:
    """All parameters, or all scalars of rows, in one form; rows of other numbers too."""
    for m, n in ((M, N), (1, 1), (3, 2), (2, 3)):
        rows = {"Vi": m, "Vj": m if program.unknown else n}
        kinds = list(program.variables.values())
        full = [(*batch, *next(forms(what, (), rows))[0]) for what in kinds]
        rowed = [
            (*shape[:-1], 1, shape[-1]) if what.startswith("Pm") else shape
            for shape, what in zip(full, kinds, strict=True)
        ]
        # KeOps looks for the rows in the first variable of each index.
        firsts = {next((n for n, k in enumerate(kinds) if k[:2] == v), 0) for v in rows}
        short = [
            shape[:-1] if what in ("Vi(1)", "Vj(1)") and place not in firsts else shape
            for place, (shape, what) in enumerate(zip(full, kinds, strict=True))
        ]
        for given in (full, rowed, short):
            yield case(name, given, full)


# Shapes that could be read in two ways, and those that fit no reading, which redcomp refuses.
OTHERS: tuple[tuple[str, list[Shape | None], list[Shape] | None], ...] = (
    # Without the last axis all of them, also the first, in which KeOps looks for rows.
    ("scalars", [(5,), (4,), (4,), ()], [(5, 1), (4, 1), (4, 1), (1,)]),
    ("scalars", [(3, 5), (3, 4), (3, 4), (3,)], [(3, 5, 1), (3, 4, 1), (3, 4, 1), (3, 1)]),
    ("scalars", [(3, 5), (4,), (4,), None], [(3, 5, 1), (4, 1), (4, 1), (1,)]),
    ("scalars", [(3, 5, 1), (3, 4, 1), (4,), (1,)], [(3, 5, 1), (3, 4, 1), (4, 1), (1,)]),
    ("scalars", [(3, 5), (3, 1), (3, 1), (1,)], [(3, 5, 1), (3, 1, 1), (3, 1, 1), (1,)]),
    ("scalars", [(3, 1), (3, 4), (3, 4), (1,)], [(3, 1, 1), (3, 4, 1), (3, 4, 1), (1,)]),
    ("scalars", [(3, 5), (4, 1), (4,), (1,)], [(3, 5, 1), (4, 1), (4, 1), (1,)]),
    # One row or column: (3, 1) has its last axis where it has as many rows as others ...
    ("scalars", [(3, 1), (3, 1), (3, 1), (1,)], [(3, 1), (3, 1), (3, 1), (1,)]),
    ("nearest", [(3, 5, 2), (3, 3, 2), (3, 1), (1,)], [(3, 5, 2), (3, 3, 2), (3, 1), (1,)]),
    # ... and lacks it where they have one.
    ("nearest", [(3, 5, 2), (3, 1, 2), (3, 1), (1,)], [(3, 5, 2), (3, 1, 2), (3, 1, 1), (1,)]),
    ("scaled", [(1, 10), (1, 10), (1, 10)], [(1, 10), (1, 10), (10,)]),
    ("scaled", [(1, 1, 10), (1, 1, 10), (1, 10)], [(1, 1, 10), (1, 1, 10), (1, 10)]),
    ("scaled", [(1, 1, 10), (1, 1, 10), (1, 1, 10)], [(1, 1, 10), (1, 1, 10), (1, 10)]),
    # More parameters than entries are a batch of their own.
    ("scaled", [(5, 10), (4, 10), (3, 10)], [(5, 10), (4, 10), (3, 10)]),
    ("scaled", [(5, 10), (4, 10), (3, 1, 10)], [(5, 10), (4, 10), (3, 1, 10)]),
    ("scaled", [(3, 5, 10), (3, 4, 10), (2, 1, 1, 10)], [(3, 5, 10), (3, 4, 10), (2, 1, 1, 10)]),
    # Fewer axes of a batch, as NumPy broadcasts.
    ("scaled", [(5, 10), (3, 4, 10), (3, 1, 10)], [(5, 10), (3, 4, 10), (3, 10)]),
    ("scaled", [(3, 5, 10), (4, 10), (10,)], [(3, 5, 10), (4, 10), (10,)]),
    # No reading.
    ("points", [(5, 2), (4, 2), (1, 4), (5, 1), (1,), (2,)], None),
    ("points", [(5, 2), (4, 2), (3, 4), (5, 1), (1,), (2,)], None),
    ("points", [(5, 2), (4, 2), (4, 1), (1, 5), (1,), (2,)], None),
    ("points", [(5, 2), (4, 2), (4, 1), (5, 1), (5,), (2,)], None),
    ("points", [(5, 2), (4, 2), (4, 1), (5, 1), (1,), (4,)], None),
    ("points", [(5, 2), (4, 2), (4, 1), (5, 1), (1,), ()], None),
    ("points", [(5, 2), (4, 2), (4, 1), (5, 1), (1,), (1,)], None),
    ("points", [(5, 2), (4, 2), (4, 1), (5, 1), (1,), (2, 1, 1)], None),
    ("points", [(5, 2), (4, 2), (), (5, 1), (1,), (2,)], None),
    ("points", [(5, 2), (4, 2), (1, 1), (5, 1), (1,), (2,)], None),
    ("points", [(5, 2), (4, 2), (5, 1), (5, 1), (1,), (2,)], None),
    ("points", [(2, 5), (4, 2), (4, 1), (5, 1), (1,), (2,)], None),
    ("points", [(10,), (4, 2), (4, 1), (5, 1), (1,), (2,)], None),
    ("points", [(3, 5, 2), (3, 4, 2), (3, 4, 1), (3, 5, 1), (2,), (3, 2)], None),
    ("points", [(3, 5, 2), (3, 4, 2), (2, 4), (3, 5, 1), (3, 1), (3, 2)], None),
    ("points", [(3, 5, 2), (3, 4, 2), (3, 5), (3, 5, 1), (3, 1), (3, 2)], None),
    ("points", [(3, 5, 2), (3, 4, 2), (3, 4, 1), (3, 5, 1), (3, 1), (3, 2, 2)], None),
    ("scalars", [(5, 1), (4, 1), (3, 4), (1,)], None),
    ("scalars", [(5,), (4,), (3, 4), (1,)], None),
    ("scalars", [(3, 5), (4, 1), (4, 1), (1,)], None),
    ("scalars", [(), (4, 1), (4, 1), (1,)], None),
    ("scaled", [(5, 10), (4, 10), (2, 5)], None),
    ("scaled", [(3, 5, 10), (3, 4, 10), (2, 1, 10)], None),
    ("scaled", [(3, 5, 10), (2, 4, 10), (10,)], None),
)


def cases() -> list[dict[str, Any]]:
    """All cases of the table, each once."""
    found: dict[str, dict[str, Any]] = {}
    generated = itertools.chain(
        *(
            made(name, program, batch)
            for name, program in PROGRAMS.items()
            for batch in BATCHES
            for made in (one_at_a_time, all_alike)
        ),
        (case(name, given, full) for name, given, full in OTHERS),
    )
    for made in generated:
        found.setdefault(json.dumps([made["program"], made["given"]]), made)
    return list(found.values())


def case(name: str, given: Sequence[Any], full: Sequence[Shape] | None) -> dict[str, Any]:
    result = None if full is None else list(dense(PROGRAMS[name], full).shape)
    return {"program": name, "given": list(given), "full": full and list(full), "result": result}


def dense(program: Program, full: Sequence[Shape]) -> torch.Tensor:
    return program.dense(*arguments(program, full))


def verdict(library: str, made: dict[str, Any]) -> str:
    """What KeOps does with a case; in a process of its own, which it may end."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=lambda: sender.send(_verdict(library, made)))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(PATIENCE) else "does not return"
    except EOFError:
        return "ends the process"
    finally:
        process.kill()
        process.join()


def _verdict(library: str, made: dict[str, Any]) -> str:
    program = PROGRAMS[made["program"]]
    full = [tuple(shape or ()) for shape in made["full"] or made["given"]]
    args = [
        given_as(values, None if shape is None else tuple(shape), as_array=library == "numpy")
        for values, shape in zip(arguments(program, full), made["given"], strict=True)
    ]
    try:
        result = program.made(getattr(pykeops, library))(*args)
    except Exception as error:  # noqa: BLE001  whatever KeOps raises is its answer
        return f"raises {type(error).__name__}"
    if made["full"] is None:
        return f"takes it: {list(result.shape)}"
    expected = dense(program, full)
    if list(result.shape) != list(expected.shape):
        return f"another shape: {list(result.shape)}"
    is_same = torch.allclose(torch.as_tensor(result).double(), expected.double(), rtol=1e-6)
    return "same" if is_same else "other values"


def main() -> None:
    pykeops.set_verbose(False)
    table = cases()
    for made in table:
        made["keops"] = {library: verdict(library, made) for library in ("numpy", "torch")}
        print(json.dumps(made), flush=True)
    lines = ",\n".join(json.dumps(made) for made in table)
    (ROOT / "tests" / "keops_shapes.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
