"""What LazyTensors do not have, though arrays do, and what serves instead.

A name here that becomes a method goes from the table: attributes are looked up there last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from redcomp import arguments
from redcomp.tracing import constant_in_graphs

_AXES = (
    "its axes are those of the batch, i, j and the components of vectors: arrange the arrays that "
    "it is made of, or .dense(); .t() exchanges i and j"
)
_TYPE = "it has the dtype and the device of the arrays that it is made of: convert these"
_GRADIENTS = (
    "gradients go to the arrays that it is made of: ask these, or the result of a reduction"
)
_PAIRS = "it would give a number for each pair, which .dense() stores: .dense().{}(...)"
_SOLUTIONS = (
    ".solve(b) solves a system; scipy.sparse.linalg.aslinearoperator(K) makes an operator of it, "
    "for eigsh, svds and all solvers there"
)
# What to do instead, by the names that share it; {} stands for the name.
_ADVICE: Mapping[str, str] = {
    "broadcast_to expand expand_as flatten moveaxis movedim permute ravel repeat reshape": _AXES,
    "resize squeeze swapaxes swapdims tile transpose unflatten unsqueeze view view_as": _AXES,
    "H mH adjoint": ".conj().t() is the conjugate transpose",
    "mT": ".t() is the transpose",
    "astype bfloat16 bool byte cfloat cpu cuda double float half int long to type xpu": _TYPE,
    "device get_device is_cuda": "it is where its arrays are: K.variables[0].device",
    "backward detach grad_fn is_leaf requires_grad retain_grad": _GRADIENTS,
    "array item numpy tolist": ".dense() gives the array",
    "clone contiguous copy": "it holds no values, and nothing changes it: it needs no copy",
    "data data_ptr itemsize nbytes storage stride strides": "its values are never stored",
    "len nelement numel size": ".shape has all sizes",
    "argsort msort sort": (
        "as many numbers as there are pairs would be stored: .Kmin(K, axis) gives the K smallest, "
        ".Kmax(K, axis) the largest, and .argKmin and .argKmax where they are"
    ),
    "kthvalue median nanmedian nanquantile percentile quantile": (
        ".Kmin(K, axis) gives the K smallest values, the last of which is the K-th"
    ),
    "cummax cummin cumprod cumsum logcumsumexp": _PAIRS,
    "argwhere count_nonzero nonzero": "(K != 0).sum(axis) counts",
    "isclose isfinite isinf isnan": (
        "K != K is 1 where K is NaN, and abs(K) == float('inf') where it is infinite"
    ),
    "nan_to_num nanmean nansum": "(K == K).where(K, 0) has 0 for NaN",
    "nanargmax nanargmin nanmax nanmin": "max, min, argmax and argmin pass NaN over",
    "masked_fill masked_select": ".mask(array, value) or (condition).where(a, b) chooses values",
    "tril triu": "compare positions, such as (Vi(rows) >= Vj(columns)).where(K, 0)",
    "gather index_select narrow select take take_along_dim": (
        "K[..., 0] chooses components; choose rows and columns of the arrays that it is made of"
    ),
    "chunk hsplit split unbind vsplit": "K[..., 0:2] chooses components",
    "dstack hstack stack vstack": (
        ".concat(other) joins components, and .block([[K, L]]) is a matrix of blocks"
    ),
    "cholesky det eig eigh eigvals logdet lu pinverse qr slogdet svd": _SOLUTIONS,
    "matrix_power": "K @ K is a lazy matrix: K @ K @ v multiplies twice",
    "addmm bmm mm mv": "K @ v multiplies",
    "inner": "x | y is the scalar product of components",
    "outer": ".tensorprod(other) is the product of all components with all",
    "kron": ".keops_kron(other, dimfself, dimfother) is the product of tensors",
    "einsum tensordot": ".keops_tensordot(...) contracts tensors, and x | y vectors",
    "cdist dist pdist": "Vi(x).sqdist(Vj(y)).sqrt() has the distances of all pairs",
    "addcdiv addcmul lerp logaddexp": "write it with operators and methods",
    "std_mean var_mean": ".std(axis), .var(axis) and .mean(axis) are methods of their own",
    "aminmax ptp": ".min(axis) and .max(axis) are methods of their own",
    "apply apply_along_axis map": "write it with operators and methods, which act on all pairs",
    "compute eval evaluate values": (
        "a reduction computes, as .sum(axis=1) or K @ v do; .dense() gives the array"
    ),
}
ADVICE: Mapping[str, str] = {
    name: advice.replace("{}", name) for names, advice in _ADVICE.items() for name in names.split()
}


class Advising:
    """An object that says what to do instead where it is asked for what it has not."""

    __slots__ = ()

    if not TYPE_CHECKING:  # type checkers would take it for an answer

        def __getattr__(self, name: str) -> Any:
            # No error of redcomp's own: hasattr in a program that is traced takes no other class.
            raise AttributeError(_said(type(self), name))


@constant_in_graphs
def _said(owner: type, name: str) -> str:
    """What is wrong with a name, and what serves instead."""
    said = f"{owner.__name__!r} object has no attribute {name!r}"
    if name.startswith("_"):  # protocols, which ask for what there may be
        return said
    if name in ADVICE:
        return f"{said}: {ADVICE[name]}"
    plain = name.rstrip("_")
    if plain != name and hasattr(owner, plain):
        return f"{said}: nothing changes it; .{plain}(...) gives another one"
    known = [other for other in dir(owner) if not other.startswith("_")]
    return said + (arguments.nearest(name, known) or "; .dense() gives the array")
