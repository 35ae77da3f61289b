"""The words that options take, as types: for annotations of programs that pass options on.

    from redcomp.typing import Backend, Reduction

Type checkers refuse another word where an option is declared by one of these; what a call refuses
in any case, it refuses with an `ArgumentError` that names the option.
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "Accumulator",
    "ArrayDtype",
    "Axis",
    "Backend",
    "Directions",
    "Dtype",
    "KernelName",
    "KernelNameOfMMD",
    "LossReduction",
    "Reduction",
    "SumScheme",
    "Target",
]

# 0 reduces over i and gives a result for each j; 1 reduces over j and gives one for each i.
Axis = Literal[0, 1]
# Where a call is computed; the names with "GPU_" are KeOps' and mean the same as "GPU".
Backend = Literal[
    "auto",
    "CPU",
    "GPU",
    "GPU_1D",
    "GPU_1D_device",
    "GPU_1D_host",
    "GPU_2D",
    "GPU_2D_device",
    "GPU_2D_host",
]
SumScheme = Literal["auto", "block_sum", "direct_sum", "kahan_scheme"]
# The dtype of sums, and of results for arrays of half precision.
Accumulator = Literal["auto", "float16", "float32", "float64"]
Dtype = Literal["float32", "float64"]
# The dtypes of arrays, which `lower` and `explain` take.
ArrayDtype = Literal["float16", "bfloat16", "float32", "float64"]
# What `lower` and `explain` compile for.
Target = Literal[
    "host",
    "avx512",
    "avx2",
    "sse2",
    "neon",
    "sm_70",
    "sm_72",
    "sm_75",
    "sm_80",
    "sm_86",
    "sm_87",
    "sm_89",
    "sm_90",
    "sm_100",
    "sm_101",
    "sm_103",
    "sm_120",
    "sm_121",
]
# The names of reductions, with the other spellings that KeOps has.
Reduction = Literal[
    "Sum",
    "Mean",
    "Norm",
    "LogSumExp",
    "LogSumExpWeight",
    "SumSoftMaxWeight",
    "SoftMax",
    "Max_SumShiftExp",
    "MaxSumShiftExp",
    "Max_SumShiftExpWeight",
    "MaxSumShiftExpWeight",
    "Prod",
    "Any",
    "All",
    "ComplexProd",
    "Min",
    "Max",
    "Min_ArgMin",
    "MinArgMin",
    "ArgMin",
    "Max_ArgMax",
    "MaxArgMax",
    "ArgMax",
    "KMin_ArgKMin",
    "KMinArgKMin",
    "KMin",
    "ArgKMin",
    "KMax_ArgKMax",
    "KMaxArgKMax",
    "KMax",
    "ArgKMax",
]
# The kernels of `redcomp.torch.nn.KernelSum`, and those of `MMD`.
KernelName = Literal[
    "gaussian",
    "laplacian",
    "matern12",
    "matern32",
    "matern52",
    "rational_quadratic",
    "periodic",
]
KernelNameOfMMD = Literal[
    "gaussian",
    "laplacian",
    "matern12",
    "matern32",
    "matern52",
    "rational_quadratic",
]
# What losses of `redcomp.torch.nn` give of a batch, and which directions `ChamferDistance` has.
LossReduction = Literal["mean", "sum", "none"]
Directions = Literal["sum", "both", "x_to_y"]
