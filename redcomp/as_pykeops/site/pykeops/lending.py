"""The modules of `pykeops.numpy` and `pykeops.torch`, which lend the names of redcomp's.

KeOps has its names in several modules of each; programs import them from any.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

_GENERIC = ("generic_sum", "generic_logsumexp", "generic_argmin", "generic_argkmin")
_LAZY = ("LazyTensor", "ComplexLazyTensor", "Vi", "Vj", "Pm")
_CLUSTERS = (
    "sort_clusters",
    "cluster_ranges",
    "cluster_centroids",
    "cluster_ranges_centroids",
    "swap_axes",
)
NAMES = ("Genred", "KernelSolve", *_GENERIC, *_LAZY)
# What each module of a library has; "" is the library itself.
MODULES: Mapping[str, tuple[str, ...]] = {
    "generic": (),
    "generic.generic_red": ("Genred",),
    "generic.generic_ops": _GENERIC,
    "operations": ("KernelSolve",),
    "lazytensor": (),
    "lazytensor.LazyTensor": (*_LAZY, "Var"),
    "cluster": ("grid_cluster", "from_matrix", *_CLUSTERS),
    "cluster.grid_cluster": ("grid_cluster",),
    "cluster.matrix": ("from_matrix",),
    "cluster.utils": _CLUSTERS,
    "test_install": ("test_numpy_bindings", "test_torch_bindings"),
}


def lend(package: str, *sources: ModuleType) -> None:
    """Make the modules of `pykeops.numpy` or `pykeops.torch` from those that have their names."""
    names = {name: value for source in sources for name, value in vars(source).items()}
    names["Var"] = _variable(names["LazyTensor"])
    vars(sys.modules[package]).update({name: names[name] for name in NAMES})
    for path, members in MODULES.items():
        module = ModuleType(f"{package}.{path}", f"redcomp's names in the places of {package}'s.")
        if any(other.startswith(f"{path}.") for other in MODULES):
            module.__path__ = []
        vars(module).update({name: names[name] for name in members})
        module.__dict__["__all__"] = list(members)
        sys.modules[module.__name__] = module
        above, _, name = module.__name__.rpartition(".")
        # A function of a module's own name hides it, as in KeOps.
        vars(sys.modules[above]).setdefault(name, module)


def _variable(lazy_class: Any) -> Any:
    def make(x_or_ind: Any, dim: int | None = None, cat: int | None = None) -> Any:
        """A variable of category 0 (i), 1 (j) or 2 (parameter): an array, or an index and a dim."""
        if dim is None:
            return lazy_class(x_or_ind, axis=cat)
        return lazy_class((x_or_ind, dim, cat))

    return make
