"""Measure first calls of long formulas: `python scripts/measure_compile_times.py [NAME ...]`.

Prints a row of the table in docs/internals/compile-times.md for each formula: process time in
milliseconds of `Genred` and of the first call, of the first gradient and of the second one, on
tensors in float32.  Each formula is compiled in a process of its own, without the disk cache.
`--all` differentiates with respect to all arguments instead of the first one.  `--order` measures
kernels of 50 and 500 Gaussians instead: as they are, a loop; written out; and in LLVM's own order.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence


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


def times(formula: str, aliases: Sequence[str], wants_all: bool) -> list[float]:
    """Seconds of the first call, its gradient and that one's gradient, in this process."""
    import torch

    from redcomp.llvm_backend import code_generation
    from redcomp.llvm_backend.host.targets import host_target
    from redcomp.torch import Genred

    target = host_target()
    code_generation.compile_object("", target)  # starts LLVM
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
        gradients = torch.autograd.grad(total, wanted, create_graph=True)
        result = torch.cat([gradient.flatten() ** 2 for gradient in gradients])
    return [*found, time.process_time() - start]


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
    parser.add_argument("--here", action="store_true", help="one formula, in this process")
    parser.add_argument("--order", action="store_true", help="the order of sums")
    arguments = parser.parse_args()
    if arguments.order:
        order()
        return
    chosen = [n for n in FORMULAS if any(part in n for part in arguments.names or [""])]
    if arguments.here:
        formula, aliases = FORMULAS[arguments.names[0]]
        print(json.dumps(times(formula, aliases.split(), arguments.all)))
        return
    print("| | first call | gradient | second |\n|---|---|---|---|")
    for name in chosen:
        command = [sys.executable, __file__, "--here", name, *(["--all"] if arguments.all else [])]
        environment = {**os.environ, "REDCOMP_CACHE_DIR": "off"}
        made = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        columns = " | ".join(f"{1000 * seconds:.0f}" for seconds in json.loads(made.stdout))
        print(f"| {name} | {columns} |", flush=True)


if __name__ == "__main__":
    main()
