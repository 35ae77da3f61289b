"""How many GPUs there are."""

from __future__ import annotations

from ..config import cuda_config

get_gpu_props = cuda_config.get_gpu_props
get_cuda_version = cuda_config.get_cuda_version
get_include_file_abspath = cuda_config.get_include_file_abspath
get_cuda_include_path = cuda_config.get_cuda_include_path
libcuda_folder = cuda_config.libcuda_folder
libnvrtc_folder = cuda_config.libnvrtc_folder
CUDA_SUCCESS = cuda_config.CUDA_SUCCESS
CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK = cuda_config.CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK
CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK = (
    cuda_config.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK
)
