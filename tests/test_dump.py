"""Who may have written the folders of dumps and overrides: needs the CPU's backend."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
from cache_files import posix

import redcomp.numpy
from redcomp import config
from redcomp.frontend.reductions import derivatives
from redcomp.text import parse_kernel, print_kernel


def reduced() -> float:
    one = np.ones((1, 1))
    made = redcomp.numpy.Genred("x - 3.75 * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)
    return float(made(one, one)[0, 0])


@pytest.mark.sampled(12)
@posix
@pytest.mark.parametrize("variable", ["REDCOMP_DUMP", "REDCOMP_OVERRIDE"])
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
@pytest.mark.parametrize("is_top", [True, False], ids=["folder", "folder of the kernel"])
def test_a_folder_of_stages_that_others_can_write_is_an_error(
    tmp_path, monkeypatch, variable, mode, is_top
):
    monkeypatch.setenv("REDCOMP_DUMP", str(tmp_path))
    assert reduced() == -2.75
    (folder,) = tmp_path.iterdir()
    monkeypatch.delenv("REDCOMP_DUMP")
    (tmp_path if is_top else folder).chmod(mode)
    monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(config.ConfigError, match=rf"{variable}: .* can be written by others"):
        reduced()
    monkeypatch.delenv(variable)
    assert reduced() == -2.75


@posix
@pytest.mark.parametrize("variable", ["REDCOMP_DUMP", "REDCOMP_OVERRIDE"])
def test_a_folder_of_stages_of_another_user_is_an_error(tmp_path, monkeypatch, variable):
    monkeypatch.setenv("REDCOMP_CACHE_DIR", "off")
    monkeypatch.setenv(variable, str(tmp_path))
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.raises(config.ConfigError, match=f"{variable}: .* belongs to user {uid}, not"):
        reduced()
    assert list(tmp_path.iterdir()) == []


@posix
def test_a_stage_is_not_written_through_a_link(tmp_path, monkeypatch):
    dump, victim = tmp_path / "dump", tmp_path / "victim"
    monkeypatch.setenv("REDCOMP_DUMP", str(dump))
    reduced()
    victim.write_text("mine")
    (stage,) = dump.glob("*/kernel.mlir")
    stage.unlink()
    stage.symlink_to(victim)
    with pytest.raises(config.ConfigError, match="REDCOMP_DUMP"):
        reduced()
    assert victim.read_text() == "mine"


@posix
def test_an_edited_stage_that_others_can_write_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("REDCOMP_DUMP", str(tmp_path))
    reduced()
    monkeypatch.delenv("REDCOMP_DUMP")
    (stage,) = tmp_path.glob("*/kernel.mlir")
    stage.chmod(0o666)
    monkeypatch.setenv("REDCOMP_OVERRIDE", str(tmp_path))
    with pytest.raises(config.ConfigError, match=r"REDCOMP_OVERRIDE: .*kernel.mlir can be"):
        reduced()


def test_a_derivative_is_dumped_from_the_formula_on(tmp_path, monkeypatch):
    monkeypatch.setenv("REDCOMP_DUMP", str(tmp_path))
    aliases = ["x = Vi(2)", "y = Vj(2)"]
    value = redcomp.numpy.Genred("Exp(-SqDist(x, y))", aliases, axis=1).reduction
    first = derivatives.gradient(value, (0, 1), (True,)).parts[1]
    second = derivatives.differential(derivatives.gradient(first, (0,), (True,)), (1,))
    stages = {}
    for reduction in (value, first, second):
        lowering = reduction.lower("f64", "avx2")
        assert lowering.nest
        folder = tmp_path / lowering.dumper.name
        names = (folder / "index.txt").read_text().split("\n\n")[1].split()
        stages[reduction] = {
            name.removesuffix(".mlir"): (folder / name).read_text() for name in names
        }
    ways = [list(found)[: list(found).index("simplify")] for found in stages.values()]
    assert ways == [
        ["kernel"],
        ["formula", "gradient", "one-axis", "kernel"],
        ["formula", "gradient", "one-axis", "gradient-after-one-axis", "differential", "kernel"],
    ]
    for reduction, kernels in ((first, stages[first]), (second, stages[second])):
        assert kernels["formula"] == stages[value]["kernel"]
        assert kernels["one-axis"] == print_kernel(first.untransposed("f64"))
        parsed = parse_kernel(list(kernels.values())[len(reduction.history("f64")) - 1])
        assert print_kernel(parsed) == print_kernel(reduction.untransposed("f64"))


@posix
def test_what_a_derivative_is_made_from_is_not_read_back(tmp_path, monkeypatch, capsys):
    value = redcomp.numpy.Genred("x - y", ["x = Vi(1)", "y = Vj(1)"], axis=1).reduction
    reduction = derivatives.gradient(value, (0,), (True,))
    monkeypatch.setenv("REDCOMP_DUMP", str(tmp_path))
    reduction.lower("f64").load()
    monkeypatch.delenv("REDCOMP_DUMP")
    monkeypatch.setenv("REDCOMP_OVERRIDE", str(tmp_path))
    reduction.lower("f64").load()
    assert re.search(r"not used of .*: formula.mlir, gradient.mlir$", capsys.readouterr().err, re.M)


@posix
def test_what_is_compiled_but_not_run_is_dumped_and_read_back(tmp_path, monkeypatch, capsys):
    """PTX can be looked at and edited on machines without a GPU."""

    def ptx() -> str:
        made = redcomp.numpy.Genred("x - 4.75 * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)
        return made.lower(target="sm_90").ptx

    monkeypatch.setenv("REDCOMP_DUMP", str(tmp_path))
    own = ptx()
    monkeypatch.delenv("REDCOMP_DUMP")
    (file,) = tmp_path.glob("*/ptx.*.ptx")
    assert file.read_text() == own
    assert file.with_name("index.txt").read_text().split()[-2:] == [
        file.name.replace("ptx", "llvm", 1).replace(".ptx", ".ll"),
        file.name,
    ]
    file.write_text(own + "// edited\n")
    file.with_name("notes.txt").write_text("mine")
    monkeypatch.setenv("REDCOMP_OVERRIDE", str(tmp_path))
    assert ptx() == own + "// edited\n"
    said = capsys.readouterr().err
    assert f"{file} is used" in said
    assert said.count("not used of") == 1
    assert "notes.txt" in said
    file.parent.rename(tmp_path / "other")
    assert ptx() == own
    assert "nothing is replaced" in capsys.readouterr().err
