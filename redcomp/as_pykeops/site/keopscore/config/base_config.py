"""Settings of the whole: where compiled code is kept.  There is no C++ compiler to be set."""

from __future__ import annotations

import os
import platform
import sys
from types import ModuleType
from typing import Any

import redcomp

from .settings import Settings, build_folder

_CACHE = "REDCOMP_CACHE_DIR"
_AT_FIRST = os.environ.get(_CACHE)


class Config(Settings, ModuleType):
    """The class of the package `keopscore.config`: a module with KeOps' values and methods."""

    base_dir_path: str = os.path.dirname(redcomp.__file__)
    bindings_source_dir: str = base_dir_path
    template_path: str = base_dir_path
    keops_cache_folder: str = build_folder()
    default_build_path: str = keops_cache_folder
    default_build_folder_name: str = os.path.basename(keops_cache_folder)
    jit_binary: str | None = None
    cxx_compiler: str | None = None
    cpp_env_flags: str = ""
    compile_options: str = ""
    cpp_flags: str = ""
    disable_pragma_unrolls: bool = True
    os: str = f"{platform.system()} {platform.release()}"
    cuda_dependencies: tuple[str, ...] = ()
    init_cudalibs_flag: bool = False
    cuda_version: str | None = None
    libcuda_folder: str | None = None
    libnvrtc_folder: str | None = None
    nvrtc_flags: str = ""
    nvrtc_include: str = ""
    cuda_include_path: str | None = None
    jit_source_file: str | None = None
    jit_source_header: str | None = None

    @property
    def use_cuda(self) -> bool:
        """Whether there is a GPU, unless it was set."""
        return bool(self.cuda_config.use_cuda)

    @use_cuda.setter
    def use_cuda(self, value: bool) -> None:
        self.cuda_config.use_cuda = value

    @property
    def specific_gpus(self) -> str | None:
        """The variable CUDA_VISIBLE_DEVICES."""
        found: str | None = self.cuda_config.specific_gpus
        return found

    @property
    def cuda_available(self) -> bool:
        """Whether there is a GPU."""
        return bool(self.cuda_config.n_gpus)

    @property
    def use_OpenMP(self) -> bool:  # noqa: N802 (KeOps' name)
        """Whether calls use several threads, which they do: a flag of KeOps."""
        return bool(self.openmp_config.use_OpenMP)

    @use_OpenMP.setter
    def use_OpenMP(self, value: bool) -> None:  # noqa: N802
        self.openmp_config.use_OpenMP = value

    @property
    def build_folder(self) -> str:
        """Where compiled code is kept: redcomp's disk cache; "" where that is off."""
        return build_folder()

    def set_different_build_folder(self, path: str | None = None, *_: Any, **__: Any) -> None:
        """Keep compiled code elsewhere, or with None where it was kept at first.

        The folder is made if it is not there.  KeOps' further options are ignored: this process
        alone is changed.
        """
        if path is not None:
            os.makedirs(path, mode=0o700, exist_ok=True)
            os.environ[_CACHE] = os.fspath(path)
        elif _AT_FIRST is None:
            os.environ.pop(_CACHE, None)
        else:
            os.environ[_CACHE] = _AT_FIRST

    set_build_folder = set_different_build_folder

    def init_cudalibs(self) -> None:
        """KeOps loads CUDA's libraries here; redcomp does so when a GPU is used."""

    def get_brew_prefix(self) -> None:
        """KeOps asks for a compiler's folder here; there is no compiler."""

    def get_use_Apple_clang(self) -> bool:  # noqa: N802 (KeOps' name)
        """Whether a compiler is Apple's: there is none."""
        return False

    def print_environment_variables(self) -> None:
        """Show what is set of redcomp's variables."""
        for name, value in sorted(os.environ.items()):
            if name.startswith("REDCOMP_"):
                print(f"{name} = {value}")

    def print_all(self) -> None:
        """Show what redcomp uses."""
        print(f"\nredcomp {redcomp.__version__} in the place of KeOps, Python {sys.version}")
        print(f"  folder: {self.base_dir_path}")
        print(f"  compiled code: {self.build_folder or 'kept nowhere'}")
        self.print_environment_variables()
