"""Programs that were written for KeOps, run with `redcomp.as_pykeops`: needs the CPU's backend and
PyTorch.

What changes a process (imports, paths, variables) is tried in processes of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import redcomp.as_pykeops
import redcomp.numpy
import redcomp.torch
from redcomp import config as environment
from redcomp.errors import SolverError

ROOT = Path(__file__).parents[1]
PROGRAM = """
    import sys
    import pykeops
    assert pykeops.redcomp_version
    import numpy as np
    from pykeops.numpy import Genred
    x = np.arange(6.0).reshape(3, 2)
    out = Genred("SqDist(x, y)", ["x = Vi(2)", "y = Vj(2)"], axis=1)(x, x)
    print(*out.ravel(), *sys.argv[1:], __name__)
"""
RESULT = "40.0 16.0 40.0"


def run(*command: object, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a new Python process does and prints."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    arguments = [sys.executable, *map(str, command)]
    return subprocess.run(arguments, capture_output=True, text=True, env=env, cwd=cwd)


def output(*command: object, cwd: Path = ROOT, **variables: str) -> str:
    """What a new process prints, which must end well."""
    result = run(*command, cwd=cwd, **variables)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def script(folder: Path, text: str, name: str = "program.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def fake_pykeops(folder: Path) -> Path:
    """A folder with packages that stand for an installed KeOps."""
    for name in redcomp.as_pykeops.PACKAGES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("__version__ = 'real'\n", encoding="utf-8")
    return folder


# -- running programs ------------------------------------------------------------------------------


def test_a_script_sees_its_arguments(tmp_path):
    path = script(tmp_path, PROGRAM)
    printed = output("-m", "redcomp.as_pykeops", path, "-n", "3")
    assert printed == f"{RESULT} -n 3 __main__"


def test_a_module_sees_its_arguments(tmp_path):
    script(tmp_path, PROGRAM)
    printed = output("-m", "redcomp.as_pykeops", "-m", "program", "-m", "3", cwd=tmp_path)
    assert printed == f"{RESULT} -m 3 __main__"


def test_a_script_imports_what_lies_beside_it_and_not_in_the_working_directory(tmp_path):
    beside, elsewhere = tmp_path / "beside", tmp_path / "elsewhere"
    for folder in (beside, elsewhere):
        folder.mkdir()
        script(folder, f"where = {folder.name!r}", "helper.py")
    path = script(beside, "import helper; print(helper.where)")
    assert output("-m", "redcomp.as_pykeops", path, cwd=elsewhere) == "beside"


def test_a_program_ends_as_it_wants(tmp_path):
    assert run("-m", "redcomp.as_pykeops", script(tmp_path, "raise SystemExit(5)")).returncode == 5
    failed = run("-m", "redcomp.as_pykeops", script(tmp_path, "1 / 0"))
    assert failed.returncode == 1
    assert "ZeroDivisionError" in failed.stderr


@pytest.mark.parametrize("arguments", [[], ["-m"], ["--unknown"], ["no_such_script.py"]])
def test_wrong_commands(arguments):
    result = run("-m", "redcomp.as_pykeops", *arguments)
    assert result.returncode == 2
    assert "as_pykeops" in result.stderr
    assert "Traceback" not in result.stderr


def test_help():
    assert "script.py" in output("-m", "redcomp.as_pykeops", "--help")


def test_pytest_takes_it_as_a_plugin(tmp_path):
    path = script(tmp_path, "import pykeops\ndef test(): assert pykeops.redcomp_version")
    output("-m", "pytest", "-q", "-p", "redcomp.as_pykeops", path.name, cwd=tmp_path)


def test_processes_that_multiprocessing_spawns_have_it_too(tmp_path):
    path = script(
        fake_pykeops(tmp_path),
        """
        import multiprocessing
        import pykeops

        def version(_):
            return pykeops.redcomp_version

        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                assert pool.map(version, [0]) == [pykeops.redcomp_version]
        """,
    )
    output("-m", "redcomp.as_pykeops", path)


# -- which pykeops ---------------------------------------------------------------------------------


def test_it_comes_before_an_installed_pykeops(tmp_path):
    fake_pykeops(tmp_path)
    program = (
        "import redcomp.as_pykeops, sys; sys.path.insert(0, {!r}); import pykeops, keopscore; "
    )
    program += "print(pykeops.__version__, keopscore.__version__)"
    assert output("-c", program.format(str(tmp_path)), cwd=tmp_path) == "2.3 2.3"


@pytest.mark.parametrize("name", redcomp.as_pykeops.PACKAGES)
def test_it_refuses_to_come_second(tmp_path, name):
    fake_pykeops(tmp_path)
    result = run("-c", f"import {name}; import redcomp.as_pykeops", cwd=tmp_path)
    assert result.returncode == 1
    message = (
        f"AlreadyImportedError: {name} was imported before redcomp.as_pykeops, from {tmp_path}"
    )
    assert message in result.stderr


def test_importing_it_again_changes_nothing():
    program = """
        import importlib, sys
        import redcomp.as_pykeops, pykeops.numpy
        before = pykeops, list(sys.path)
        redcomp.as_pykeops.install()
        importlib.reload(redcomp.as_pykeops)
        import pykeops
        assert before == (pykeops, sys.path)
    """
    output("-c", textwrap.dedent(program))


def test_pytorch_is_loaded_by_pykeops_torch_alone():
    program = "import sys, redcomp.as_pykeops, pykeops.numpy; print('torch' in sys.modules)"
    assert output("-c", program) == "False"


def test_subpackages_need_no_import_of_their_own(pykeops):
    assert pykeops.torch.Genred is redcomp.torch.Genred
    assert pykeops.numpy.Genred is redcomp.numpy.Genred
    assert pykeops.common.utils.axis2cat(1) == 0
    with pytest.raises(AttributeError, match="module 'pykeops' has no attribute 'jax'"):
        pykeops.jax  # noqa: B018


STUB = ROOT / "packaging" / "pykeops-stub"


FIRST = ["pykeops", "keopscore", "pykeops.numpy", "keopscore.config.config"]


@pytest.mark.parametrize("first", FIRST)
def test_the_stub_distribution_is_redcomp(first):
    program = f"import {first}, pykeops, keopscore; print(pykeops.redcomp_version)"
    path = os.pathsep.join([str(STUB / "src"), str(ROOT)])
    assert output("-c", program, PYTHONPATH=path) == redcomp.__version__


def unpacked(project: Path, parts: Sequence[str], folder: Path) -> None:
    """Put into a folder what pip would install of a project."""
    pytest.importorskip("setuptools", minversion="77", reason="the projects are built by this one")
    copy, wheels = folder / "project", folder / "wheels"
    for part in parts:
        place = copy / part
        place.parent.mkdir(parents=True, exist_ok=True)
        given = project / part
        if given.is_dir():
            shutil.copytree(given, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(given, place)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(wheels)!r})"
    output("-W", "ignore", "-c", build, cwd=copy, PYTHONPATH="")
    (wheel,) = wheels.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    shutil.rmtree(copy)
    shutil.rmtree(wheels)


def test_installed_files_are_enough_and_replace_none_of_keops(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    fake_pykeops(site)
    shutil.rmtree(site / "pykeops")  # as pip does when it replaces it by the stub
    unpacked(ROOT, ["redcomp", "pyproject.toml", "setup.py", "README.md", "LICENSE"], tmp_path)
    unpacked(STUB, ["src", "pyproject.toml", "README.md"], tmp_path)
    checked = """
        import importlib.metadata, pykeops, keopscore, pykeops.numpy
        from keopscore.utils import misc_utils
        assert importlib.metadata.version("pykeops") == "2.3+redcomp"
        assert importlib.metadata.requires("pykeops") == ["redcomp"]
        pykeops.test_numpy_bindings()
    """
    printed = output("-c", textwrap.dedent(checked), cwd=tmp_path, PYTHONPATH=str(site))
    assert "is working, on redcomp" in printed
    assert (site / "keopscore" / "__init__.py").read_text() == "__version__ = 'real'\n"


# -- what it offers --------------------------------------------------------------------------------


@pytest.fixture
def pykeops():
    redcomp.as_pykeops.install()
    import pykeops

    return pykeops


@pytest.fixture
def keopscore(pykeops):
    import keopscore

    return keopscore


def test_it_says_that_it_is_redcomp(pykeops, keopscore):
    assert pykeops.__version__ == keopscore.__version__ == "2.3"
    assert pykeops.redcomp_version == redcomp.__version__


def test_the_checks_of_an_installation(pykeops, capsys):
    pykeops.test_numpy_bindings()
    pykeops.test_torch_bindings()
    assert capsys.readouterr().out.count("is working") == 2
    pykeops.set_verbose(False)
    pykeops.test_numpy_bindings()
    assert capsys.readouterr().out == ""
    pykeops.set_verbose(True)


def test_health(pykeops, keopscore, capsys):
    pykeops.check_health()
    assert f"redcomp {redcomp.__version__}" in capsys.readouterr().out
    keopscore.check_health("openmp")
    assert (
        capsys.readouterr().out.split()
        == f"OpenMPConfig threads: {environment.num_threads()}".split()
    )
    with pytest.raises(ValueError, match="config_type must be one of"):
        keopscore.check_health("hip")


def test_the_build_folder_is_the_disk_cache(pykeops, keopscore, monkeypatch, tmp_path):
    folder = tmp_path / "cache"
    before = pykeops.get_build_folder()
    assert before == str(environment.cache_directory())
    monkeypatch.setenv("REDCOMP_CACHE_DIR", before)  # set back at the end
    pykeops.set_build_folder(str(folder))
    assert pykeops.get_build_folder() == keopscore.get_build_folder() == str(folder)
    pykeops.numpy.Genred("x + 3.25 * y", ["x = Vi(1)", "y = Vj(1)"])(*np.ones((2, 3, 1)))
    (folder / "of somebody else").touch()
    assert len(list(folder.iterdir())) > 1
    pykeops.clean_pykeops()
    assert [path.name for path in folder.iterdir()] == ["of somebody else"]
    pykeops.set_build_folder()
    assert pykeops.get_build_folder() == before


FLAGS = [
    "keopscore.auto_factorize",
    "keopscore.debug_ops",
    "keopscore.debug_ops_at_exec",
    "keopscore.verbose",
    "keopscore.config.config.use_cuda",  # before 2.3
    "keopscore.config.use_cuda",
    "keopscore.config.config.use_OpenMP",
    "keopscore.config.config.disable_pragma_unrolls",
    "keopscore.config.cuda_config.use_cuda",
    "keopscore.config.chunks.enable_chunk",
    "pykeops.verbose",
    "pykeops.config.gpu_available",
]


def test_flags_can_be_set():
    turned = [f"assert {f} is False or {f} is True; {f} = not {f}" for f in FLAGS]
    checked = [f"before = {f}; {f} = not {f}; assert {f} is not before" for f in FLAGS]
    program = ["import redcomp.as_pykeops, pykeops, keopscore, keopscore.config.config"]
    result = "pykeops.numpy.Genred('x * y', ['x = Vi(1)', 'y = Vj(1)'])(*np.ones((2, 3, 1)))"
    program += [*turned, *checked, "import numpy as np", f"print({result}.sum())"]
    assert output("-c", "\n".join(program)) == "9.0"


def test_the_accessors_of_settings(keopscore, capsys):
    from keopscore.config import cuda_config
    from keopscore.config.config import get_build_folder

    assert get_build_folder() == keopscore.config.build_folder
    cuda_config.set_cuda_block_size(64)
    assert cuda_config.get_cuda_block_size() == 64
    cuda_config.set_cuda_block_size()  # KeOps finds out what is best
    cuda_config.print_cuda_block_size()
    assert capsys.readouterr().out == "cuda_block_size: 64\n"
    del cuda_config.cuda_block_size
    with pytest.raises(AttributeError, match="'CUDAConfig' object has no attribute 'get_nothing'"):
        cuda_config.get_nothing()


def test_names_are_the_same_wherever_they_are_imported_from(pykeops):
    from pykeops.torch.cluster import grid_cluster
    from pykeops.torch.cluster.grid_cluster import grid_cluster as the_same
    from pykeops.torch.generic.generic_red import Genred
    from pykeops.torch.lazytensor.LazyTensor import LazyTensor, Var

    assert grid_cluster is the_same is pykeops.torch.cluster.grid_cluster
    assert Genred is redcomp.torch.Genred
    assert LazyTensor is redcomp.torch.LazyTensor
    assert Var(0, 3, 1).symbolic_variables == redcomp.torch.Vj(0, 3).symbolic_variables


def test_axes_and_categories(pykeops):
    from pykeops.common.utils import axis2cat, cat2axis, check_broadcasting, max_tuple

    assert [axis2cat(0), axis2cat(1), cat2axis(0), cat2axis(1)] == [1, 0, 1, 0]
    for function in (axis2cat, cat2axis):
        with pytest.raises(ValueError, match="not 2"):
            function(2)
    assert check_broadcasting((3, 1), (4,)) == (3, 4)
    assert check_broadcasting(None, (4,)) == check_broadcasting((4,), None) == (4,)
    with pytest.raises(ValueError, match="Incompatible batch dimensions"):
        check_broadcasting((3,), (4,))
    assert max_tuple((1, 5), (2, 3)) == (2, 5)


@pytest.mark.parametrize("lang", ["numpy", "torch"])
def test_the_tools_of_a_library(pykeops, lang):
    from pykeops.common.utils import get_tools

    tools = get_tools(lang)
    x = tools.array([[1.0, 2.0], [3.0, 4.0]], dtype="float64")
    z = tools.view_as_complex(x)
    assert tools.is_tensor(x)
    assert not tools.is_tensor([1.0])
    assert tools.detect_complex(z)
    assert not tools.detect_complex(x)
    assert tools.dtypename(tools.dtype(x)) == "float64"
    assert tools.size(x) == 4
    assert tools.numpy(z).tolist() == [[1 + 2j], [3 + 4j]]
    assert tools.numpy(tools.view_as_real(z)).tolist() == tools.numpy(x).tolist()
    assert tools.numpy(tools.transpose(x)).tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert tools.numpy(tools.long(x)).dtype == np.int64
    assert tools.zeros((2, 3), tools.dtype(x), tools.device(x)).shape == (2, 3)
    np.testing.assert_allclose(tools.numpy(tools.solve(x, x)), np.eye(2), atol=1e-14)
    with pytest.raises(ValueError, match="lang must be one of"):
        get_tools("jax")


KERNELS = ["gaussian", "laplacian", "cauchy", "inverse_multiquadric"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_dense_kernels(pykeops, kernel):
    from pykeops.numpy import utils
    from pykeops.torch.utils import torch_kernel

    random = np.random.default_rng(0)
    x, y, s, h = random.random((4, 3)), random.random((5, 3)), 0.7, 1e-6
    value = utils.np_kernel(x, y, s, kernel)
    np.testing.assert_allclose(np.exp(utils.log_np_kernel(x, y, s, kernel)), value, rtol=1e-12)
    as_tensors = torch_kernel(torch.from_numpy(x), torch.from_numpy(y), s, kernel)
    np.testing.assert_allclose(as_tensors, value, rtol=1e-12)
    # The derivative in the squared distance, which x moves by 2 (x - y).
    moved = x.copy()
    moved[:, 0] += h
    slope = (utils.np_kernel(moved, y, s, kernel) - value) / h
    derivative = utils.grad_np_kernel(x, y, s, kernel)
    np.testing.assert_allclose(derivative * 2 * (x[:, None, 0] - y[None, :, 0]), slope, atol=1e-5)
    q, p = random.random((4, 2)), random.random((5, 2))
    expected = np.einsum("ie,ij,je->i", q, slope, p)
    np.testing.assert_allclose(utils.chain_rules(q, x, y, derivative, p)[:, 0], expected, atol=1e-5)
    with pytest.raises(ValueError, match="kernel must be one of"):
        utils.np_kernel(x, y, s, "cosine")


@pytest.mark.parametrize("lang", ["numpy", "torch"])
def test_linear_systems(pykeops, lang):
    from pykeops.common.operations import ConjugateGradientSolver, KernelLinearSolver
    from pykeops.common.utils import get_tools

    tools = get_tools(lang)
    random = np.random.default_rng(1)
    points, right = random.random((40, 2)), random.random((40, 3))
    x, b = tools.array(points, dtype="float64"), tools.array(right, dtype="float64")
    solution = KernelLinearSolver(lang, ("gaussian", 2, 3, 0.4), x, b, alpha=0.1, eps=1e-9)
    squared = ((points[:, None] - points) ** 2).sum(-1)
    matrix = np.exp(-squared / 0.16) + 0.1 * np.eye(40)
    np.testing.assert_allclose(tools.numpy(solution), np.linalg.solve(matrix, right), atol=1e-6)
    with pytest.raises(SolverError):
        ConjugateGradientSolver(lang, lambda a: -a, b)
