"""Write redcomp/view/processors.json: LLVM's scheduling models for the instructions of pair loops.

Needs llvm-mca, of the LLVM release that llvmlite has, as LLVM_MCA or on PATH:

    LLVM_MCA=/usr/lib/llvm-22/bin/llvm-mca python scripts/make_processors.py
    LLVM_MCA=/usr/lib/llvm-22/bin/llvm-mca python scripts/make_processors.py compare

The second prints the bounds of some loops beside the clocks that llvm-mca's simulation takes.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from redcomp.errors import RedcompError
from redcomp.llvm_backend.host.machine_code import pair_loop
from redcomp.numpy import Genred
from redcomp.view.processors import JUMP, TABLE, bound, form, processor

MCA = os.environ.get("LLVM_MCA", "llvm-mca")
TRIPLES = {"avx512": "x86_64", "avx2": "x86_64", "sse2": "x86_64", "neon": "aarch64"}
ALIASES = ["x=Vi(3)", "y=Vj(3)", "b=Vj(1)", "s=Vi(1)", "e=Vi(1)"]
_UNARY = """Exp Log Sin Cos Sqrt Rsqrt Abs Inv Square Tanh Atan Acos Asin Sinh Cosh Sign Step ReLU
    Log1p Expm1 Sigmoid Softplus LogCosh Cbrt Exp2 Log2 XLogX Matern32"""
_OTHERS = """Powf((x|y),s) (x|y)/s Mod((x|y),s,b) Atan2((x|y),s) IfElse((x|y),s,b) Max(x*y)
    Clamp((x|y),s,b)"""
CASES: list[tuple[str, dict[str, Any]]] = [
    ("Exp(-SqDist(x,y))*b", {}),
    ("Exp(-Sqrt(SqDist(x,y)))*b", {}),
    ("Grad(Exp(-SqDist(x,y))*b,x,e)", {}),
    ("Grad(Exp(-SqDist(x,y))*b,y,e)", {}),
    ("SqDist(x,y)", {"reduction_op": "ArgMin"}),
    ("SqDist(x,y)", {"reduction_op": "ArgKMin", "opt_arg": 5}),
    ("SqDist(x,y)", {"reduction_op": "Min"}),
    ("(x|y)", {"reduction_op": "LogSumExp"}),
    ("(x|y)", {"reduction_op": "SumSoftMaxWeight", "formula2": "b"}),
    *((f"{name}((x|y))*b", {}) for name in _UNARY.split()),
    *((f"{text}*b", {}) for text in _OTHERS.split()),
]
COMPARED: list[tuple[str, dict[str, Any]]] = [
    ("Exp(-SqDist(x,y))*b", {}),
    ("-SqDist(x,y)", {"reduction_op": "LogSumExp"}),
    ("SqDist(x,y)", {"reduction_op": "ArgMin"}),
]
WIDE = ["x=Vi(40)", "y=Vj(40)", "b=Vj(1)", "s=Vi(1)", "e=Vi(1)"]


def forms() -> Iterator[tuple[str, str, str]]:
    """Instructions of pair loops: the architecture, the form, and one of it."""
    for target, architecture in TRIPLES.items():
        for formula, options in CASES:
            for aliases in (ALIASES, WIDE):
                for dtype in ("float32", "float64"):
                    try:
                        made = Genred(formula, aliases, axis=1, **options).lower(dtype, target)
                        loop = pair_loop(made.asm)
                    except (RedcompError, ValueError) as error:
                        print(f"{formula}: {error}".splitlines()[0], file=sys.stderr)
                        continue
                    for line in loop.lines:
                        yield architecture, form(line), re.sub(r"\.LBB\w+", "somewhere", line)


def measured(architecture: str, cpu: str, lines: Mapping[str, str]) -> dict[str, Any] | None:
    """What llvm-mca says of each form, in a region of its own; None if it has no model."""
    regions = [
        f"# LLVM-MCA-BEGIN {n}\n{line}\n# LLVM-MCA-END" for n, line in enumerate(lines.values())
    ]
    command = [MCA, f"-mtriple={architecture}", f"-mcpu={cpu}", "--instruction-tables", "--json"]
    command.append("-skip-unsupported-instructions=any")
    text = "somewhere:\n" + "\n".join(regions) + "\n"
    if architecture == "aarch64":
        text = text.replace("# LLVM", "// LLVM")
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout:
        return None
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def width(architecture: str, cpu: str) -> int:
    """Micro-operations that begin in a clock."""
    sample = "addl %eax, %eax\n" if architecture == "x86_64" else "add x0, x0, x0\n"
    command = [MCA, f"-mtriple={architecture}", f"-mcpu={cpu}", "--json"]
    done = subprocess.run(command, input=sample, capture_output=True, text=True, check=True)
    regions = json.loads(done.stdout)["CodeRegions"]
    return int(regions[0]["SummaryView"]["DispatchWidth"])


def short(names: list[str]) -> list[str]:
    """Names of ports without the processor's: "p0" of "SKXPort0", "FP1" of "Zn4FP1"."""
    clean = [re.sub(r"\.?([\x00-\x1f])", lambda m: f".{ord(m[1])}", name) for name in names]
    first, last = min(clean), max(clean)
    common = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    prefix = re.sub(r"Port\d*$", "", first[:common])
    return [re.sub(r"^Port(?=\d+$)", "p", name.removeprefix(prefix)) for name in clean]


def model(found: dict[str, Any], lines: Mapping[str, str]) -> dict[str, Any]:
    """The table of one processor."""
    names, pressure, infos = list(lines), {}, {}
    for region in found["CodeRegions"]:
        instructions = region.get("InstructionInfoView", {}).get("InstructionList", [])
        if region["Name"].isdigit() and len(instructions) == 1:
            n = int(region["Name"])
            infos[n] = instructions[0]
            pressure[n] = {
                e["ResourceIndex"]: e["ResourceUsage"]
                for e in region["ResourcePressureView"]["ResourcePressureInfo"]
                if e["InstructionIndex"] == 0
            }
    loads = loading(pressure, names)
    costs = {}
    for n, info in infos.items():
        uses = []
        left = dict(pressure[n])
        if loads and info["mayLoad"] and all(left.get(k, 0) >= v - 1e-6 for k, v in loads.items()):
            uses.append((tuple(sorted(loads)), round(sum(loads.values()), 4)))
            left = {k: v - loads.get(k, 0) for k, v in left.items()}
        by_value: dict[float, list[int]] = defaultdict(list)
        for port, value in left.items():
            if value > 1e-6:
                by_value[round(value, 4)].append(port)
        for value, of_value in by_value.items():
            uses.append((tuple(sorted(of_value)), round(value * len(of_value), 3)))
        costs[names[n]] = (info["NumMicroOpcodes"], info["Latency"], uses)
    return {"ports": short(found["TargetInfo"]["Resources"]), "costs": costs}


_LOADS = ("vmovaps m,z", "vmovups m,z", "vmovups m,y", "vmovaps m,y", "movaps m,x", "ldr q,m")


def loading(pressure: Mapping[int, Mapping[int, float]], names: list[str]) -> dict[int, float]:
    """The ports of a plain load."""
    for plain in _LOADS:
        if plain in names:
            found = pressure.get(names.index(plain), {})
            if found and max(found.values()) - min(found.values()) < 1e-6:
                return dict(found)
    return {}


def cpus(architecture: str) -> list[str]:
    command = [MCA, f"-mtriple={architecture}", "-mcpu=help"]
    said = subprocess.run(command, input="", capture_output=True, text=True, check=False).stderr
    listed = said.split("Available CPUs")[1].split("Available features")[0]
    return re.findall(r"^  (\S+) +- Select", listed, re.M)


def main() -> None:
    found: dict[str, dict[str, str]] = {"x86_64": {}, "aarch64": {}}
    for architecture, name, line in forms():
        found[architecture].setdefault(name, line)
    version = subprocess.run([MCA, "--version"], capture_output=True, text=True, check=True).stdout
    release = re.search(r"version (\S+)", version)
    all_forms = sorted({*found["x86_64"], *found["aarch64"]})
    table: dict[str, Any] = {
        "source": f"the scheduling models of LLVM {release[1] if release else ''}, by llvm-mca",
        "forms": all_forms,
        "names": {},
        "models": {},
    }
    known: dict[str, str] = {}
    for architecture, lines in found.items():
        for cpu in cpus(architecture):
            said = measured(architecture, cpu, lines)
            if said is None:
                continue
            made = {"width": width(architecture, cpu), **model(said, lines)}
            text = json.dumps(made)
            if text not in known:
                known[text] = cpu
                table["models"][cpu] = packed(made, all_forms)
            table["names"][cpu] = known[text]
    TABLE.write_text(json.dumps(table, separators=(",", ":")) + "\n", "utf-8")
    models, names = len(table["models"]), len(table["names"])
    print(f"{len(all_forms)} forms, {models} models of {names} processors")


def packed(made: dict[str, Any], all_forms: list[str]) -> dict[str, Any]:
    """Sets of ports, and costs, once each."""
    sets: list[tuple[int, ...]] = []
    kinds: list[Any] = []
    numbers = []
    for name in all_forms:
        cost = made["costs"].get(name)
        if cost is None:
            numbers.append(-1)
            continue
        uops, latency, uses = cost
        listed = []
        for ports, clocks in uses:
            if ports not in sets:
                sets.append(ports)
            listed.append([sets.index(ports), clocks])
        kind = [uops, latency, listed]
        if kind not in kinds:
            kinds.append(kind)
        numbers.append(kinds.index(kind))
    kept = {key: made[key] for key in ("width", "ports")}
    return {**kept, "sets": sets, "kinds": kinds, "costs": numbers}


def compare() -> None:
    """The bounds of loops beside what llvm-mca simulates, waiting for results included."""
    print("| loop | processor | bound | limit | simulated |\n|---|---|---|---|---|")
    processors = [("avx512", "skylake-avx512"), ("avx512", "znver4"), ("avx2", "haswell")]
    for (formula, options), (target, cpu) in itertools.product(
        COMPARED, [*processors, ("neon", "neoverse-n1")]
    ):
        loop = pair_loop(Genred(formula, ALIASES, axis=1, **options).lower(target=target).asm)
        model = processor(cpu)
        if model is None:
            continue
        found = bound(loop.lines, model)
        lines = [line for line in loop.lines if not JUMP.match(form(line))]
        command = [MCA, f"-mtriple={TRIPLES[target]}", f"-mcpu={cpu}", "--json", "-iterations=200"]
        text = "somewhere:\n" + "\n".join(lines) + "\n"
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        clocks = json.loads(done.stdout)["CodeRegions"][0]["SummaryView"]["TotalCycles"] / 200
        name = f"`{formula}` {options.get('reduction_op', 'Sum')}"
        print(f"| {name} | {cpu} | {found.clocks:.1f} | {found.limit} | {clocks:.1f} |")


if __name__ == "__main__":
    compare() if sys.argv[1:] == ["compare"] else main()
