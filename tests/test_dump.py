"""Who may have written the folders of dumps and overrides: needs the CPU's backend."""

from __future__ import annotations

import os

import numpy as np
import pytest
from cache_files import posix

import redcomp.numpy
from redcomp import config


def reduced() -> float:
    one = np.ones((1, 1))
    made = redcomp.numpy.Genred("x - 3.75 * y", ["x = Vi(1)", "y = Vj(1)"], axis=1)
    return float(made(one, one)[0, 0])


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
