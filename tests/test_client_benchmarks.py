"""The benchmarks of packages that call KeOps, but for the packages: needs no backend."""

from __future__ import annotations

from typing import ClassVar

import pytest

from benchmarks.clients import __main__ as clients


class Prepared:
    """Stands for a worker: calls of redcomp take a second, those of KeOps take ten."""

    values: ClassVar = {"redcomp": [1.0, 2.0], "pykeops": [1.0, 2.0]}

    def __init__(self, library: str, program: str, points: int) -> None:
        self.library, self.factor = library, 1.0 if library == "redcomp" else 10.0

    def answer(self) -> dict[str, object]:
        return {"first": 2 * self.factor, "values": self.values[self.library]}

    def warm(self) -> tuple[float, float]:
        return self.factor, 4 * self.factor

    def close(self) -> None:
        pass


def test_a_row_has_the_times_of_both_and_their_ratios(monkeypatch):
    monkeypatch.setattr(clients, "Worker", Prepared)
    row = clients.row("program", clients.measure("program", 10, 3))
    assert row == ("| program | 2 s | 20 s | 10 | 1 s | 10 s | 10 | 4 s | 40 s | 10 |")
    assert row.count("|") == clients.HEAD.splitlines()[0].count("|")


def test_results_that_differ_are_not_reported(monkeypatch):
    monkeypatch.setattr(clients, "Worker", Prepared)
    monkeypatch.setitem(Prepared.values, "redcomp", [1.0, 2.1])
    with pytest.raises(ValueError, match="program: the results differ by"):
        clients.measure("program", 10, 3)
