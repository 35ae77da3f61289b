"""Modules of PyTorch that people write again and again, made of reductions over pairs.

| module | computes |
|---|---|
| `KernelSum` | K(x, y) @ b, for the usual kernels, with a lengthscale for each feature |
| `MMD` | the squared maximum mean discrepancy of two samples |
| `EnergyDistance` | the energy distance of two samples |
| `ChamferDistance` | the mean distance to the nearest point of the other cloud |
| `SoftNearestNeighbour` | values of the nearest points, weighted by a softmax of distances |
| `SoftNearestNeighbourLoss` | how much classes are mixed (Frosst, Papernot and Hinton, 2019) |
| `Attention` | softmax(scale * query @ key^T + mask + bias) @ value |

None of them stores an array of all pairs.  They are ordinary modules: their parameters and options
are in `state_dict` and `repr`, they can be copied, pickled, moved and differentiated to any order,
and take any leading axes as a batch.  The documentation of each class says what it takes and gives.
"""

from redcomp.torch.nn.attention import Attention
from redcomp.torch.nn.chamfer import ChamferDistance
from redcomp.torch.nn.kernels import KernelSum
from redcomp.torch.nn.losses import MMD, EnergyDistance
from redcomp.torch.nn.neighbours import SoftNearestNeighbour, SoftNearestNeighbourLoss

__all__ = [
    "Attention",
    "ChamferDistance",
    "EnergyDistance",
    "KernelSum",
    "MMD",
    "SoftNearestNeighbour",
    "SoftNearestNeighbourLoss",
]
