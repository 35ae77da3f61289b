"""Settings of GPUs; redcomp looks for one when it is asked, and not before."""

from __future__ import annotations

import os
from typing import Any

from redcomp.concurrency import cached_property

from .settings import Settings, build_folder


class CUDAConfig(Settings):
    """What KeOps says about GPUs.  `use_cuda` can be set, and says then what it was set to."""

    cxx_compiler: str | None = None
    libcuda_folder: str | None = None
    libnvrtc_folder: str | None = None
    cuda_include_path: str | None = None
    nvrtc_flags: str = ""
    gpu_compile_flags: str = ""
    cuda_block_size: int = 192
    specific_gpus: str | None = (os.getenv("CUDA_VISIBLE_DEVICES") or "").replace(",", "_") or None
    CUDA_SUCCESS = 0
    CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 1
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK = 8

    @cached_property
    def _found(self) -> tuple[int, str]:
        from redcomp.runtime.device import DeviceError
        from redcomp.runtime.driver import driver

        try:
            used = driver()
        except DeviceError as error:
            return 0, str(error)
        names = ", ".join(device.name for device in used.devices())
        return len(used.devices()), f"{used.version}: {names or 'no GPU'}"

    @cached_property
    def use_cuda(self) -> bool:
        """Whether there is a GPU."""
        return self.n_gpus > 0

    @property
    def n_gpus(self) -> int:
        """How many GPUs there are."""
        return self._found[0]

    @property
    def cuda_message(self) -> str:
        """Which GPUs there are, or why there is none."""
        return self._found[1]

    @property
    def cuda_version(self) -> None:
        """KeOps has the toolkit's version here; redcomp needs no toolkit."""
        return None

    @property
    def build_folder(self) -> str:
        """Where compiled code is kept."""
        return build_folder()

    keops_cache_folder = default_build_folder_name = build_folder

    def get_cuda_version(self, out_type: str = "single_value") -> None:
        """None: there is no CUDA toolkit."""

    def get_include_file_abspath(self, filename: str) -> None:
        """None: there is no CUDA toolkit."""

    def get_gpu_props(self) -> tuple[int, str]:
        """The number of GPUs, and the flags that KeOps makes of their limits: none."""
        return self.n_gpus, self.gpu_compile_flags

    def values(self) -> dict[str, Any]:
        """What there is to say about GPUs."""
        return {"GPUs": self.n_gpus, "message": self.cuda_message}
