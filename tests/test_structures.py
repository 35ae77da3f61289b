"""Random cases of structure on the host and on GPUs that are interpreted: needs PyTorch, no GPU.

`make fuzz-structures` goes through 100,000 of them.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import random_structures
import torch
from branches import Branches
from on_gpu import STAND_INS, on_gpu
from random_cases import Program, Reduced, program_text
from random_formulas import Argument
from random_structures import CASES_A_STRUCTURE, FEW_ENTRIES, StructureCase, check_structure
from random_structures import random_structure as structure
from reference_reductions import COMBINATIONS, SELECTIONS

PROGRAMS_A_TEST = 3
CASES_A_PROGRAM = 4


@pytest.mark.sampled(20)
@pytest.mark.parametrize("part", range(20))
def test_cases_on_the_host(part: int) -> None:
    first = part * PROGRAMS_A_TEST
    for number in range(first, first + PROGRAMS_A_TEST):
        for seed in range(number * CASES_A_STRUCTURE, number * CASES_A_STRUCTURE + CASES_A_PROGRAM):
            case = structure(seed)
            try:
                check_structure(case)
            except Exception as error:
                raise AssertionError(f"case {seed}: {error}\n{program_text(case)}") from error


@pytest.mark.interpreted(1, 1)
@pytest.mark.parametrize("machine", STAND_INS)
@pytest.mark.parametrize("number", range(100, 112))
def test_cases_on_gpus(number: int, machine: str) -> None:
    with on_gpu(machine):
        check_structure(structure(number * CASES_A_STRUCTURE, FEW_ENTRIES))


def test_programs_have_every_reduction_and_many_shapes() -> None:
    programs = [structure(n * CASES_A_STRUCTURE).program for n in range(1000)]
    names = {r.reduction_op for p in programs for r in p.results}
    assert names >= {"Sum", "KMin", "ArgKMax", "Max_SumShiftExpWeight", "All"}
    assert names <= {*COMBINATIONS, *SELECTIONS}
    assert max(len(p.results) for p in programs) == 100
    assert {r.count for p in programs for r in p.results} >= {1, 16, 17, 200}
    assert {a.dim for p in programs for a in p.arguments} >= {1, 16, 17, 300}


@pytest.mark.parametrize("name", ["Sum", "Min", "ArgKMin", "LogSumExp", "Any"])
def test_mistakes_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of another row."""
    count = 2 if "K" in name else None
    results = (Reduced("Step(Elem(x,0)-Elem(y,0))-Elem(x,1)*Elem(y,1)", name, count),)
    arguments = (Argument("x", "Vi", 2), Argument("y", "Vj", 2))
    program = Program(results, arguments, 1, torch.float32)
    case = StructureCase(program, rows=9, columns=3, batches=((), ()), seed=1)
    operation = random_structures.compiled(program)
    assert check_structure(case)
    wrong = lambda *given, ranges: operation(*given, ranges=ranges).roll(1, 0)
    monkeypatch.setattr(random_structures, "compiled", lambda _: wrong)
    if name == "Any":
        wrong = lambda *given, ranges: ~operation(*given, ranges=ranges)
    with pytest.raises(AssertionError, match="differ"):
        check_structure(case)


def test_branches_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "def f(x):\n    if x > 1:\n        return 1\n    for n in range(x):\n        x += n\n"
    )
    scope: dict[str, object] = {}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    branches = Branches([path])
    f = scope["f"]
    assert callable(f)
    with branches.traced():
        f(0)
    taken = {(b.line, b.is_taken) for b, is_taken in branches.found().items() if is_taken}
    assert taken == {(2, False), (4, False)}
    with branches.traced():
        f(1)
        thread = threading.Thread(target=f, args=(2,))
        thread.start()
        thread.join()
    assert all(branches.found().values())
