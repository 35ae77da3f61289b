"""transpose: exchange the roles of i and j, so that a reduction over i becomes one over j."""

from __future__ import annotations

from redcomp.ir import Kernel, Kind, replace_variables, stored_of, variable
from redcomp.passes.registry import compiler_pass
from redcomp.target import Context

_OTHER: dict[str, Kind] = {
    "i": "j",
    "j": "i",
    "ij": "ji",
    "ji": "ij",
    "i_index": "j_index",
    "j_index": "i_index",
    "parameter": "parameter",
}


@compiler_pass
def transpose(kernel: Kernel, context: Context) -> Kernel:
    """The same kernel with i and j exchanged."""
    return with_indices_exchanged(kernel)


def with_indices_exchanged(kernel: Kernel) -> Kernel:
    """The same kernel with i-variables and j-variables exchanged; arrays stay as they are."""
    exchanged = {
        v: variable(v["name"], _OTHER[v["kind"]], v["position"], v.type, v.span, stored_of(v))
        for v in kernel.params
    }
    return replace_variables(kernel, exchanged)
