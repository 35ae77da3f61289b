"""Tensors that machine code cannot read meet an error: needs the CPU's backend and PyTorch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from unreadable_tensors import cases

from redcomp.torch import Genred


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    """What each case meets; the process must not crash."""
    script = Path(__file__).with_name("unreadable_tensors.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(line.split("\t", 1) for line in done.stdout.splitlines())


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("name", "message"), [(name, message) for name, _, message in cases()])
def test_the_error_names_what_is_wrong(outcomes: dict[str, str], name: str, message: str) -> None:
    assert outcomes[name].startswith("ArgumentError: ")
    assert message in outcomes[name]


class Labelled(torch.Tensor):
    """A subclass that keeps its data."""


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "make",
    [
        lambda t: t.as_subclass(Labelled),
        torch.nn.Parameter,
        torch.nn.Buffer,
        lambda t: torch.nn.Parameter(t.as_subclass(Labelled)),
        lambda t: torch.from_numpy(t.numpy()),
        lambda t: t.share_memory_(),
    ],
    ids=["subclass", "parameter", "buffer", "both", "NumPy's", "shared"],
)
def test_tensors_that_keep_their_data(make: Any) -> None:
    call = Genred("x * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)
    x, y = torch.rand(3, 1), torch.rand(4, 1)
    expected = x @ y.mT @ torch.ones(4, 1)
    torch.testing.assert_close(call(make(x), make(y)).detach().as_subclass(torch.Tensor), expected)


def test_what_only_looks_on() -> None:
    """Modes that change no operator, and constants in a trace of something else."""
    call = Genred("x * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)
    x = torch.rand(3, 1)
    expected = x @ x.mT @ torch.ones(3, 1)
    with FlopCounterMode(display=False):
        torch.testing.assert_close(call(x, x), expected)
    traced = torch.fx.symbolic_trace(lambda t: t + call(x, x))
    torch.testing.assert_close(traced(torch.zeros(3, 1)), expected)
    empty = torch.zeros(0, 1)
    assert call(empty, x).shape == (0, 1)
    assert (call(x, empty) == 0).all()
