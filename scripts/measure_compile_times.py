"""Measure first calls of long formulas: `python scripts/measure_compile_times.py [NAME ...]`.

Prints a row of the table in docs/internals/compile-times.md for each formula: process time in
milliseconds of `Genred` and of the first call, of the first gradient and of the second one, on
tensors in float32.  Each formula is compiled in a process of its own that has compiled another one,
with an empty disk cache.  `--all` differentiates with respect to all arguments instead of the first
one.  `--order` measures kernels of 50 and 500 Gaussians instead: as they are, a loop; written out;
and in LLVM's own order.

`--against CHECKOUT` compares with another version of redcomp.  Processes of the two take turns,
and each time is the least of so many `--rounds`.  Two lists of formulas are for that: `--usual`,
whose first calls are added up, one process for all of them, and `--kernels`, those of
`kernel_texts.py`, from the formula to machine code or PTX.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import kernel_texts

ROOT = Path(__file__).parents[1]


def gaussians(count: int) -> str:
    """A sum of so many different Gaussians."""
    return "+".join(f"Exp(-IntCst({k + 1})*SqDist(x,y))" for k in range(count))


def sines(count: int, innermost: str) -> str:
    """So many sines of each other."""
    return count * "Sin(" + innermost + count * ")"


D3, D5, D16 = (f"x=Vi({dim}) y=Vj({dim})" for dim in (3, 5, 16))
RADIUS = "Norm2((x-y)/l)"
MATERN = f"(1+Sqrt(5)*{RADIUS}+5/3*Square({RADIUS}))*Exp(-Sqrt(5)*{RADIUS})"
NETWORK = "Sum(w*Tanh(MatVecMult(V,Tanh(MatVecMult(U,x-y)+a))+c))"
FORMULAS: Mapping[str, tuple[str, str]] = {
    "SymSqNorm, D=16": ("SymSqNorm(A,x-y)", f"{D16} A=Pm(256)"),
    "power of a norm, D=16": ("Powf(Sum(Powf(Abs(x-y),p)),1/p)", f"{D16} p=Pm(1)"),
    "network 3-8-8-1": (NETWORK, f"{D3} U=Pm(24) a=Pm(8) V=Pm(64) c=Pm(8) w=Pm(8)"),
    "Matern 5/2, lengthscales, D=16": (MATERN, f"{D16} l=Pm(16)"),
    **{f"{n} Gaussians": (gaussians(n), D3) for n in (100, 200, 400, 500)},
    **{f"{n} nested sines": (sines(n, "(x|y)"), D3) for n in (30, 60, 120)},
    **{
        f"SoftDTW, {n} x {n}": ("SoftDTW_SqDist(x,y,g)", f"x=Vi({n}) y=Vj({n}) g=Pm(1)")
        for n in (24, 50)
    },
    **{f"{n} nested sines, D=5": (sines(n, "x+y"), D5) for n in (30, 60, 120)},
}


# Formulas as users write them, and the dimensions of x, y and b that each is compiled for.
USUAL = (
    *("Exp(-SqDist(x,y))*b", "Exp(-SqDist(x,y)*g)*b", "Exp(-Norm2(x-y))*b", "b/(1+SqDist(x,y))"),
    *("Sqrt(1+SqDist(x,y))*b", "(1+Norm2(x-y))*Exp(-Norm2(x-y))*b", "(x|y)*b", "Exp((x|y))*b"),
    *("Square(1+(x|y))*b", "Log(1+SqDist(x,y))*b", "Tanh((x|y))*b", "Sum(Abs(x-y))*b"),
    *("SymSqNorm(A,x-y)*b", "Exp(-WeightedSqDist(s,x,y))*b", "Norm2(x-y)*b"),
)
DIMS = ((3, 1), (16, 3))


def usual() -> list[tuple[str, list[str]]]:
    """Formulas with their variables."""
    found = []
    for formula, (d, e) in itertools.product(USUAL, DIMS):
        sizes = {"x": f"Vi({d})", "y": f"Vj({d})", "b": f"Vj({e})"}
        sizes |= {"g": "Pm(1)", "A": f"Pm({d * d})", "s": f"Pm({d})"}
        read = [name for name in sizes if re.search(rf"\b{name}\b", formula)]
        found.append((formula, [f"{name}={sizes[name]}" for name in read]))
    return found


def start_compiler() -> None:
    """Import what the first compilation of a process imports, and start LLVM."""
    times("Sum(x-y)", ["x=Vi(2)", "y=Vj(2)"], True)


def times(formula: str, aliases: Sequence[str], wants_all: bool) -> list[float]:
    """Seconds of the first call, its gradient and that one's gradient, in this process."""
    import torch

    from redcomp.torch import Genred

    arguments = []
    for alias in aliases:
        kind, dim = re.findall(r"V[ij]|Pm|[0-9]+", alias)[-2:]
        shape = {"Vi": (5, int(dim)), "Vj": (6, int(dim)), "Pm": (int(dim),)}[kind]
        arguments.append(torch.rand(shape, requires_grad=wants_all or not arguments))
    wanted = [argument for argument in arguments if argument.requires_grad]
    found, start = [], time.process_time()
    result = Genred(formula, list(aliases), axis=1)(*arguments)
    for _ in range(2):
        found.append(time.process_time() - start)
        total = result.sum()
        start = time.process_time()
        gradients = torch.autograd.grad(total, wanted, create_graph=True, allow_unused=True)
        result = torch.cat([g.flatten() ** 2 for g in gradients if g is not None])
    return [*found, time.process_time() - start]


def kernels() -> list[dict[str, Any]]:
    """Options of Genred: formulas and reductions, gradients of sums; and targets and dtypes."""
    listed = list(kernel_texts.fixed())
    dims = itertools.cycle([(3, 1), (1, 2), (5, 3), (16, 1), (64, 64), (8, 8), (20, 1)])
    for formula, variable in itertools.product(kernel_texts.FORMULAS, "xyb"):
        d, e = next(dims)
        aliases = [alias.format(d=d, e=e) for alias in kernel_texts.POINTS]
        gradient, axis = f"Grad(Sum({formula}),{variable},g)", 1 if variable == "x" else 0
        listed.append({"formula": gradient, "aliases": [*aliases, "g=Vi(1)"], "axis": axis})
    dtypes = itertools.cycle(["float32", "float64", "float32"])
    chosen = itertools.product(listed, ("host", "sm_90"))
    return [{"options": o, "target": target, "dtype": next(dtypes)} for o, target in chosen]


def compile_kernel(kernel: Mapping[str, Any]) -> list[float] | None:
    """Seconds of redcomp, from the formula to an LLVM module, and of LLVM; None if it refuses."""
    from redcomp.errors import RedcompError
    from redcomp.numpy import Genred

    start = time.process_time()
    try:
        lowering = Genred(**kernel["options"]).lower(kernel["dtype"], kernel["target"])
        assert lowering.module_text
        made = time.process_time()
        lowering.generate()
    except RedcompError:
        return None
    return [made - start, time.process_time() - made]


def here(arguments: argparse.Namespace) -> list[list[float] | None]:
    """What a process measures: a formula, or one of the lists."""
    if arguments.kernels:
        listed = kernels()
        for kernel in listed[:2]:
            compile_kernel(kernel)
        return list(map(compile_kernel, listed))
    start_compiler()
    if arguments.usual:
        return [times(formula, aliases, True) for formula, aliases in usual()]
    formula, aliases = FORMULAS[arguments.names[0]]
    return [times(formula, aliases.split(), arguments.all)]


def measured(
    options: Sequence[str], checkouts: Sequence[Path], rounds: int
) -> list[list[list[float] | None]]:
    """For each checkout what its processes measured, the least of all rounds."""
    found: list[list[list[list[float] | None]]] = [[] for _ in checkouts]
    for _, (number, checkout) in itertools.product(range(rounds), enumerate(checkouts)):
        with tempfile.TemporaryDirectory() as folder:
            variables = {"PYTHONPATH": str(checkout), "REDCOMP_NUM_THREADS": "1"}
            variables |= {"REDCOMP_CACHE_DIR": folder, "REDCOMP_DATA_DIR": folder}
            command = [sys.executable, __file__, "--here", *options]
            environment = {**os.environ, **variables}
            made = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        found[number].append(json.loads(made.stdout))
    return [[least(of_rounds) for of_rounds in zip(*runs, strict=True)] for runs in found]


def least(rows: Sequence[list[float] | None]) -> list[float] | None:
    """The least of each column; None if there are none."""
    known = [row for row in rows if row is not None]
    return [min(column) for column in zip(*known, strict=True)] if known else None


def row_of(name: str, versions: Sequence[Sequence[float]]) -> str:
    """A row of a table: the columns in milliseconds, from the oldest version on."""
    columns = [" -> ".join(f"{1000 * s:.0f}" for s in cell) for cell in zip(*versions, strict=True)]
    return f"| {name} | {' | '.join(columns)} |"


def print_usual(versions: Sequence[Sequence[Sequence[float]]]) -> None:
    """A row for each formula, and their sums."""
    print("| | first call | all gradients | second |\n|---|---|---|---|")
    for (formula, aliases), *rows in zip(usual(), *versions, strict=True):
        formula = formula.replace("|", r"\|")  # in a table
        print(row_of(f"`{formula}`, D={re.sub('[^0-9]', '', aliases[0])}", rows))
    print(row_of("all", [[sum(column) for column in zip(*rows, strict=True)] for rows in versions]))


def print_kernels(versions: Sequence[Sequence[list[float] | None]]) -> None:
    """For each target: kernels that all versions compile, and the sums, medians and ratios."""
    listed = kernels()
    for target in dict.fromkeys(kernel["target"] for kernel in listed):
        of_target = [
            rows for k, *rows in zip(listed, *versions, strict=True) if k["target"] == target
        ]
        both = [rows for rows in of_target if None not in rows]
        print(f"{target}: {len(both)} of {len(of_target)} kernels")
        ways = {"redcomp": lambda row: row[0], "LLVM": lambda row: row[1], "both": sum}
        for part, seconds in ways.items():
            columns = [[seconds(row) for row in version] for version in zip(*both, strict=True)]
            totals = " -> ".join(f"{sum(column):.2f}" for column in columns)
            medians = " -> ".join(f"{1000 * statistics.median(c):.1f}" for c in columns)
            ratios = [now / before for before, now in zip(columns[0], columns[-1], strict=True)]
            spread = ", ".join(f"{r:.2f}" for r in statistics.quantiles(ratios, n=10)[::4])
            print(f"  {part}: {totals} s in all, median {medians} ms; ratios {spread}")


def order() -> None:
    """Vector instructions of the pair loop, and pairs a second of one thread."""
    import numpy as np

    from redcomp.frontend.reductions import derivatives
    from redcomp.llvm_backend import emit
    from redcomp.numpy import Genred
    from redcomp.passes import reroll
    from redcomp.runtime.tasks import whole

    os.environ["REDCOMP_NUM_THREADS"] = "1"
    ways = {
        "a loop": (reroll.LEAST_TERMS, emit.longest_sum),
        "term by term": (1000, emit.longest_sum),
        "LLVM's order": (1000, lambda values: 0),
    }
    for count in (50, 500):
        for how, (least_terms, longest_sum) in ways.items():
            reroll.LEAST_TERMS, emit.longest_sum = least_terms, longest_sum
            reduction = Genred(gaussians(count), D3.split(), axis=1).reduction
            found = []
            for _ in range(3):
                lowering = reduction.lower("f32")
                kernel = lowering.load()
                dims = [parameter.dim for parameter in reduction.parameters]
                random = np.random.default_rng(0)
                arrays = [random.random((1024, dim), "f4") for dim in dims]
                results = [np.empty((1024, result.dim), "f4") for result in reduction.results]
                seconds = []
                for _ in range(7):
                    start = time.process_time()
                    addresses = [[a.ctypes.data for a in group] for group in (results, arrays)]
                    kernel(whole(1024, 1024), *addresses)
                    seconds.append(time.process_time() - start)
                speed = 1024**2 / min(seconds) / 1e6
                instructions = lowering.stats.instructions * (count if how == "a loop" else 1)
                found.append(f"{instructions:.0f}, {speed:.1f} million pairs/s")
                reduction = derivatives.gradient(reduction, (0,), (True,))
            print(f"{count} Gaussians, {how}: {'; '.join(found)}", flush=True)


def main() -> None:
    """Measure the formulas that are named, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of names of formulas")
    parser.add_argument("--all", action="store_true", help="gradients of all arguments")
    parser.add_argument("--usual", action="store_true", help="first calls of usual formulas")
    parser.add_argument("--kernels", action="store_true", help="the formulas of kernel_texts.py")
    parser.add_argument("--against", type=Path, help="another version, which is compared")
    parser.add_argument("--rounds", type=int, default=1, help="processes of each version")
    parser.add_argument("--here", action="store_true", help="one list, in this process")
    parser.add_argument("--order", action="store_true", help="the order of sums")
    arguments = parser.parse_args()
    if arguments.order:
        order()
        return
    if arguments.here:
        print(json.dumps(here(arguments)))
        return
    checkouts = [path.resolve() for path in (arguments.against, ROOT) if path]
    if arguments.usual:
        print_usual(measured(["--usual"], checkouts, arguments.rounds))
        return
    if arguments.kernels:
        print_kernels(measured(["--kernels"], checkouts, arguments.rounds))
        return
    print("| | first call | gradient | second |\n|---|---|---|---|")
    options = ["--all"] if arguments.all else []
    for name in (n for n in FORMULAS if any(part in n for part in arguments.names or [""])):
        versions = measured([name, *options], checkouts, arguments.rounds)
        print(row_of(name, [rows[0] for rows in versions]), flush=True)


if __name__ == "__main__":
    main()
