"""The compiler: the only module that knows the order of the passes, and which backend a target has.

kernel -> passes -> nest of loops -> backend -> loaded kernel
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from redcomp import config
from redcomp.concurrency import importing
from redcomp.errors import ArgumentError
from redcomp.ir import Kernel
from redcomp.llvm_backend.host.targets import host_target
from redcomp.passes.pipeline import parse_pipeline
from redcomp.ptx.targets import gpu_target, height_for, is_gpu
from redcomp.target import Context, Options

if TYPE_CHECKING:
    from redcomp.backends.gpu import GpuLowering
    from redcomp.backends.host import HostLowering

# From a formula's kernel to the nest that a backend takes.
PIPELINE = parse_pipeline(
    "simplify,factor,accumulate,share_states,products,scalarize,simplify,cse,prescale,contract,"
    "half_powers,expand,estimate_roots,share_inverses,simplify,hoist,legal"
)


def lower(
    kernel: Kernel,
    target: str = "host",
    options: Options | None = None,
    rows: int | None = None,
) -> HostLowering | GpuLowering:
    """Prepare the compilation of a kernel for "host", the name of a host target, or a GPU's.

    `rows` is the number of rows of the calls that will use it; None means many.  Raises
    ArgumentError for an unknown name.
    """
    context = context_of(target, options or Options(), rows)
    # Most processes need only one of the two.
    if is_gpu(context.target.name):
        with importing:
            from redcomp.backends.gpu import GpuLowering
        return GpuLowering(kernel, context, PIPELINE)
    with importing:
        from redcomp.backends.host import HostLowering
    return HostLowering(kernel, context, PIPELINE)


def context_of(target: str, options: Options, rows: int | None = None) -> Context:
    """The target for a name and a number of rows, see `lower`, and the completed options."""
    name = config.target() if target == "host" else target
    fast = is_gpu(name) if options.use_fast_math is None else options.use_fast_math
    try:
        found = gpu_target(name, fast) if is_gpu(name) else host_target(name)
    except ArgumentError as error:
        if target == "host":
            raise config.ConfigError(f"REDCOMP_TARGET: {error}") from None
        raise
    return Context(found, replace(options, use_fast_math=fast), height_for(name, rows))
