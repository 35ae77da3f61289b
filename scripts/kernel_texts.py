"""Record the code of many kernels, and compare it after a change that should not change it.

    python scripts/kernel_texts.py record FOLDER    before the change
    python scripts/kernel_texts.py compare FOLDER   after it; the last line counts

A kernel is a reduction, or one of its gradients, in a dtype for a target.  Recorded are what it is
made from (`kernels.json`) and the LLVM module that redcomp writes, one file a kernel, with numbers
in place of names: renaming a value is no difference.  Compared is what the recorded kernels are
now, so that the list need not be drawn again.  No GPU and no tool is needed.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

TARGETS = (
    *("avx512", "sm_90", "avx2", "sm_75", "sse2", "sm_80", "neon", "sm_120"),
    *("sm_86", "sm_89", "sm_100"),
)
DTYPES = ("f32", "f64", "f32")
# Kinds of the arguments of one gradient after the other.
DERIVATIVES = {"value": (), "by i": ("i",), "by j and p": ("jp",), "by i, by i": ("i", "i")}

GAUSSIAN = "Exp(-SqDist(x,y))*b"
POINTS = ("x = Vi({d})", "y = Vj({d})", "b = Vj({e})", "p = Pm(1)")
FORMULAS = (
    *(GAUSSIAN, "Exp(-Sqrt(SqDist(x,y)))*b", "(x|y)*b", "b/(1+SqDist(x,y))", "Exp(Norm2(x-y))*b"),
    *("Sum(Abs(x-y))*b", "Max(x-y)*b", "IfElse(SqDist(x,y)-1,1/SqDist(x,y),0)*b", "Sin(x|y)*b"),
    *("Log(1+SqDist(x,y))*b", "Powf(SqDist(x,y),Elem(x,0))*b", "Square(x|y)*Sum(b)"),
    *("Erf(x|y)*b", "Sum(Tanh(x-y))*b", "Elem(x,0)*b-Elem(y,0)*p"),
)
REDUCTIONS: tuple[Mapping[str, Any], ...] = (
    *({"reduction_op": "Sum"}, {"reduction_op": "Sum", "sum_scheme": "kahan_scheme"}),
    *({"reduction_op": "Mean"}, {"reduction_op": "Norm"}, {"reduction_op": "Prod"}),
    *({"reduction_op": "Max"}, {"reduction_op": "ArgMin"}, {"reduction_op": "Min_ArgMin"}),
    *({"reduction_op": "KMin", "opt_arg": 5}, {"reduction_op": "ArgKMin", "opt_arg": 40}),
)
WEIGHTED = ("LogSumExpWeight", "SumSoftMaxWeight", "Max_SumShiftExpWeight")
SCALARS = ("-SqDist(x,y)", "(x|y)", "-Sqrt(SqDist(x,y))")


def fixed() -> Iterator[dict[str, Any]]:
    """Formulas times reductions times dimensions, each of them once with several others."""
    dims = itertools.cycle([(3, 1), (1, 2), (5, 3), (16, 1), (64, 64), (8, 8), (20, 1), (300, 1)])
    for formula, (number, reduction) in itertools.product(FORMULAS, enumerate(REDUCTIONS)):
        if (FORMULAS.index(formula) + number) % 3 == 0:
            d, e = next(dims)
            aliases = [alias.format(d=d, e=e) for alias in POINTS]
            yield {"formula": formula.format(d=d), "aliases": aliases, "axis": 1, **reduction}
    for formula, name in itertools.product(SCALARS, WEIGHTED):
        d, e = next(dims)
        weights = "Exp(Elem(b,0))" if name == "LogSumExpWeight" else "b"
        aliases = [alias.format(d=d, e=e) for alias in POINTS]
        options = {"reduction_op": name, "formula2": weights, "axis": 1}
        yield {"formula": formula, "aliases": aliases, **options}


def drawn() -> Iterator[dict[str, Any]]:
    """Programs of the random tests: of operations, and of structures."""
    import random_cases
    import random_structures
    from random_formulas import Choices

    for seed in range(120):
        yield random_cases.random_program(Choices(seed)).options_of_genred()
    for seed in range(60):
        yield random_structures.random_program(Choices(seed)).options_of_genred()


def kernels() -> Iterator[dict[str, Any]]:
    """What is recorded: options of Genred, derivative, dtype and target."""
    targets, dtypes = itertools.cycle(TARGETS), itertools.cycle(DTYPES)
    for options in fixed():
        for derivative in DERIVATIVES:
            choice = {"derivative": derivative, "dtype": next(dtypes), "target": next(targets)}
            yield {"options": options, **choice}
    for options in drawn():
        for derivative in ("value", "by i"):
            choice = {"derivative": derivative, "dtype": next(dtypes), "target": next(targets)}
            yield {"options": options, **choice}


def module_text(kernel: Mapping[str, Any]) -> str:
    """The kernel's LLVM module, or the error that refuses it, with numbered names."""
    from redcomp.errors import RedcompError
    from redcomp.frontend.reductions import derivatives
    from redcomp.numpy import Genred

    try:
        reduction = Genred(**kernel["options"]).reduction
        for kinds in DERIVATIVES[kernel["derivative"]]:
            reduction = gradient(derivatives.for_derivatives(reduction), kinds)
            if not reduction.results:
                return "no gradient\n"
        text = reduction.lower(kernel["dtype"], kernel["target"]).module_text
    except RedcompError as error:
        return f"{type(error).__name__}\n"
    return numbered(text)


def gradient(reduction: Any, kinds: str) -> Any:
    """The gradient with respect to all arguments of some kinds; one without results if none has."""
    from redcomp.frontend.reductions import derivatives

    positions = tuple(
        n
        for n, parameter in enumerate(reduction.parameters)
        if parameter.kind[0] in kinds and not parameter.is_integer
    )
    given = tuple(True for result in reduction.results if result.kind == "value")
    return derivatives.gradient(reduction, positions, given)


def numbered(text: str) -> str:
    """The text, in which every name of a value, a block or a function is its number."""
    numbers: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return numbers.setdefault(match[0].lstrip("%@").rstrip(":"), f"n{len(numbers)}")

    return re.sub(r'[%@](?!llvm\.)(?:"[^"]*"|[\w.$-]+)|^[\w.$-]+:', number, text, flags=re.M)


def record(folder: Path) -> int:
    """Write the list of kernels and their texts."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = list(kernels())
    (folder / "kernels.json").write_text(json.dumps(listed, default=str, indent=1))
    lines = 0
    for number, kernel in enumerate(listed):
        text = module_text(kernel)
        lines += text.count("\n")
        (folder / f"{number:04}.ll").write_text(text)
    print(f"{len(listed)} kernels, {lines:,} lines")
    return 0


def compare(folder: Path) -> int:
    """Say which kernels have another text, and show the first lines that differ."""
    counts: Counter[str] = Counter()
    for number, kernel in enumerate(json.loads((folder / "kernels.json").read_text())):
        before = (folder / f"{number:04}.ll").read_text()
        after = module_text(kernel)
        counts["same" if before == after else "different"] += 1
        if before != after:
            print(f"{number:04}: {kernel}")
            lines = difflib.unified_diff(before.split("\n"), after.split("\n"), lineterm="", n=0)
            print(*(f"    {line[:150]}" for line in itertools.islice(lines, 2, 8)), sep="\n")
    print(dict(counts))
    return min(counts["different"], 1)


def main() -> int:
    """Record or compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("record", "compare"))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    return (record if arguments.what == "record" else compare)(arguments.folder)


if __name__ == "__main__":
    sys.exit(main())
