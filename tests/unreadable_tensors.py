"""What a reduction cannot read, one entry a kind; run as a script it prints what each one meets.

A process of its own, because what is read where there is no memory ends it.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch._vmap_internals import _vmap
from torch.masked import masked_tensor
from torch.testing._internal.two_tensor import TwoTensor

from redcomp.torch import Genred, KernelSolve, cluster

ALIASES = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"]
call = Genred("Exp(-SqDist(x, y)) * b", ALIASES, axis=1)
nearest = Genred("SqDist(x, y) + b", ALIASES, "Min", axis=1)
solve = KernelSolve("Exp(-SqDist(x, y)) * b", ALIASES, "b", axis=1)

x, y, b = torch.rand(5, 3), torch.rand(5, 3), torch.rand(5, 1)
whole = torch.tensor([1])
fake = FakeTensorMode(allow_non_fake_inputs=True)
symbols = FakeTensorMode(shape_env=torch.fx.experimental.symbolic_shapes.ShapeEnv())
moved, weights = x.clone().requires_grad_(), b.clone().requires_grad_()
result = call(moved, y, b)


def shortened(
    tensor: torch.Tensor, length: int = 0, view: Callable[[torch.Tensor], Any] = lambda t: t
) -> Any:
    """A tensor whose storage has been taken away, as some schemes of sharding do."""
    viewed = view(copied := tensor.clone())
    copied.untyped_storage().resize_(length)
    return viewed


def leaked() -> Any:
    kept: list[torch.Tensor] = []
    torch.vmap(lambda t: (kept.append(t), t)[1])(torch.stack([x, x]))
    return kept[0]


# What stands for x, and what the error says of it.
ARGUMENTS: dict[str, tuple[Callable[[], Any], str]] = {
    "FakeTensor of another mode": (lambda: symbols.from_tensor(x), "FakeTensor"),
    "functional": (lambda: torch._to_functional_tensor(x), "'x' has no memory"),
    "masked": (lambda: masked_tensor(x, x > 0.5), "a MaskedTensor"),
    "emptied": (lambda: shortened(x), "'x' has no memory"),
    "cut off": (lambda: shortened(x, 59), "'x' has no memory for its values, or less"),
    "cut off behind an offset": (
        lambda: shortened(torch.rand(6, 3), 71, lambda t: t[1:]),
        "'x' has no memory for its values, or less",
    ),
    "cut off between strides": (
        lambda: shortened(torch.rand(10, 3), 80, lambda t: t[::2]),
        "'x' has no memory for its values, or less",
    ),
    "cut off and negated": (
        lambda: torch._neg_view(shortened(x, 59)),
        "'x' has no memory for its values, or less",
    ),
    "leaked out of vmap": (leaked, "'x' has no memory"),
    "sparse": (x.to_sparse, "'x' has layout torch.sparse_coo"),
    "sparse rows": (x.to_sparse_csr, "'x' has layout torch.sparse_csr"),
    "mkldnn": (x.to_mkldnn, "'x' has layout torch._mkldnn"),
    "nested": (lambda: torch.nested.nested_tensor([x, x]), "'x' is a nested tensor"),
    "jagged": (
        lambda: torch.nested.nested_tensor([x, x], layout=torch.jagged),
        "'x' is a nested tensor",
    ),
    "quantized": (
        lambda: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8),
        "'x' has dtype torch.qint8",
    ),
    "complex": (lambda: x.to(torch.complex64), "'x' has dtype torch.complex64"),
    "on meta": (lambda: x.to("meta"), "'y' is on cpu, but 'x' is on meta"),
    "without a shape": (torch.nn.UninitializedParameter, "'x' has no shape"),
    "no tensor": (x.numpy, "'x' must be a tensor, not a ndarray"),
}

# Whole programs.
PROGRAMS: dict[str, tuple[Callable[[], Any], str]] = {
    "symbolic_trace": (
        lambda: torch.fx.symbolic_trace(lambda x: call(x, y, b)),
        "'x' must be a tensor, not a Proxy",
    ),
    "the older vmap": (lambda: _vmap(lambda x: call(x, y, b))(torch.stack([x, x])), "'x' has no"),
    "out is fake": (lambda: call(x, y, b, out=fake.from_tensor(b)), "out is a FakeTensor"),
    "out is emptied": (lambda: call(x, y, b, out=shortened(b)), "out has no memory"),
    "out is too short": (lambda: call(x, y, b, out=shortened(b, 4)), "out has no memory"),
    "out is sparse": (lambda: call(x, y, b, out=b.to_sparse()), "out has layout"),
    "out is expanded": (lambda: call(x, y, b, out=b[:1].expand(5, 1)), "out cannot hold"),
    "a sparse cotangent": (
        lambda: torch.autograd.grad(result, moved, b.to_sparse(), retain_graph=True),
        "'cotangent0' has layout",
    ),
    "fake ranges": (lambda: call(x, y, b, ranges=[fake.from_tensor(x)] * 6), "ranges[0]"),
    "ranges on meta": (lambda: call(x, y, b, ranges=[x.to("meta")] * 6), "ranges[0]"),
    "ranges are cut off": (
        lambda: call(x, y, b, ranges=[shortened(torch.tensor([[0, 5]]), 8), *[whole] * 5]),
        "ranges[0] has less memory",
    ),
    "a cotangent is cut off": (
        lambda: torch.autograd.grad(result, moved, shortened(b, 19), retain_graph=True),
        "'cotangent0' has no memory for its values, or less",
    ),
}

# What stands for an argument of the functions of clusters, and what the error says of it.
UNREADABLE: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "FakeTensor": (fake.from_tensor, "is a FakeTensor"),
    "TwoTensor": (lambda t: TwoTensor(t, t), "is a TwoTensor"),
    "emptied": (shortened, "has no memory for its values, or less"),
    "cut off": (lambda t: shortened(t, t.nbytes - 1), "has no memory for its values, or less"),
    "cut off behind an offset": (
        lambda t: shortened(torch.cat([t, t]), 2 * t.nbytes - 1, lambda both: both[len(t) :]),
        "has no memory for its values, or less",
    ),
    "sparse": (torch.Tensor.to_sparse, "has layout torch.sparse_coo"),
    "nested": (lambda t: torch.nested.nested_tensor([t, t]), "is a nested tensor"),
    "on meta": (lambda t: t.to("meta"), "is on meta"),
}
labels, counts = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([2, 3])
intervals, keep = torch.tensor([[0, 2], [2, 5]]), torch.ones(2, 2) > 0
CLUSTERS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], tuple[str, ...]]] = {
    "grid_cluster": (cluster.grid_cluster, (x, torch.ones(3)), ("x", "size")),
    "sort_clusters": (cluster.sort_clusters, (x, labels), ("x", "lab")),
    "sort_clusters of several": (
        lambda a, b, lab: cluster.sort_clusters([a, b], lab),
        (x, b, labels),
        ("x", "x", "lab"),
    ),
    "cluster_ranges": (cluster.cluster_ranges, (labels,), ("lab",)),
    "cluster_ranges of counts": (cluster.cluster_ranges, (labels, counts), ("", "Nlab")),
    "cluster_centroids": (
        cluster.cluster_centroids,
        (x, labels, counts, b[:, 0], torch.ones(2)),
        ("x", "lab", "Nlab", "weights", "weights_c"),
    ),
    "cluster_ranges_centroids": (
        cluster.cluster_ranges_centroids,
        (x, labels, b[:, 0]),
        ("x", "lab", "weights"),
    ),
    "from_matrix": (
        cluster.from_matrix,
        (intervals, intervals, keep),
        ("ranges_i", "ranges_j", "keep"),
    ),
}


def cases() -> Iterator[tuple[str, Callable[[], Any], str]]:
    """Name, program and what its error says."""
    for name, (make, message) in ARGUMENTS.items():
        yield f"{name}: call", lambda make=make: call(make(), y, b), message
        yield f"{name}: min", lambda make=make: nearest(make(), y, weights), message
        yield f"{name}: solve", lambda make=make: solve(make(), x, b), message
    for name, (program, message) in PROGRAMS.items():
        yield name, program, message
    yield from of_clusters()


def of_clusters() -> Iterator[tuple[str, Callable[[], Any], str]]:
    """Each argument of each function of clusters, replaced by each of what cannot be read."""
    for function, (compute, args, names) in CLUSTERS.items():
        for n, name in enumerate(names):
            for kind, (make, message) in UNREADABLE.items() if name else ():

                def program(compute=compute, args=args, n=n, make=make) -> Any:
                    return compute(*args[:n], make(args[n]), *args[n + 1 :])

                yield f"{kind}: argument {n} of {function}", program, message

        def in_mode(compute=compute, args=args) -> Any:
            return under(fake, lambda: compute(*args))

        def traced(compute=compute, args=args) -> Any:
            return torch.jit.trace(compute, args)

        yield f"FakeTensorMode: {function}", in_mode, "depends on values"
        yield f"jit.trace: {function}", traced, "depends on values"


def under(mode: contextlib.AbstractContextManager[Any], compute: Callable[[], Any]) -> Any:
    with mode:
        return compute()


def outcome(program: Callable[[], Any]) -> str:
    try:
        return f"a result: {program()}"
    except Exception as error:  # noqa: BLE001  # whatever it is, the test is told
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for name, program, _ in cases():
        print(name, outcome(program).splitlines()[0], sep="\t", flush=True)
