"""What a command measures: one row a suite."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.cases import CASES, REDUCTION_CASES, Case


@dataclass(frozen=True, slots=True)
class Suite:
    """The cases of a command.

    name         for the command line and the files
    title        the report's heading
    cases        what is measured for speed
    competitors  who is measured, by name, unless the command line says so
    parts        what is measured, unless the command line says so
    """

    name: str
    title: str
    cases: tuple[Case, ...]
    competitors: tuple[str, ...]
    parts: tuple[str, ...]


PARTS = ("speed", "compile", "import", "memory")
SUITES: tuple[Suite, ...] = (
    Suite(
        "cpu",
        "Benchmarks on the CPU",
        CASES,
        ("redcomp", "KeOps", "torch.compile", "numba", "torch", "NumPy"),
        PARTS,
    ),
    Suite(
        "reductions",
        "Reductions on the CPU",
        REDUCTION_CASES,
        ("redcomp", "KeOps", "torch.compile", "scikit-learn", "torch", "NumPy"),
        ("speed",),
    ),
)
