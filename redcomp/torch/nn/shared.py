"""What all modules share: their reductions, checks of what they are given, positive parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from redcomp import arguments
from redcomp.errors import ArgumentError
from redcomp.torch import autocast
from redcomp.torch.genred import Genred

if TYPE_CHECKING:
    from redcomp.typing import Reduction

# What the exponents of pairs that do not count become: less than others, but finite, so that rows
# without any other pair have no NaN, neither in their values nor in derivatives.
NEVER = -1e30
REDUCTIONS = ("mean", "sum", "none")
Numbers = float | Sequence[float] | Tensor


def shared(make: Callable[..., Genred]) -> Callable[..., Genred]:
    """A function that makes a reduction, called once for each list of arguments.

    Modules look their reductions up here and hold none: many modules share what is compiled, and
    pickles and copies of modules are those of their parameters.

    Under torch.compile a reduction is made while the call is traced: Dynamo runs a function with
    this mark instead of tracing it, and then finds the reduction in the table.
    """
    made: dict[tuple[Any, ...], Genred] = {}

    def ensure(*key: Any) -> bool:
        if key not in made:
            made[key] = make(*key)
        return True

    def lookup(*key: Any) -> Genred:
        ensure(*key)
        return made[key]

    ensure._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return lookup


def over_columns(
    formula: str | list[str],
    aliases: list[str],
    reduction_op: Reduction = "Sum",
    formula2: str | None = None,
) -> Genred:
    """A reduction over j."""
    made: Genred = Genred(formula, aliases, reduction_op, axis=1, formula2=formula2)
    return made


def features(points: Tensor) -> int:
    """The length of the last axis: a number, also where Dynamo has symbols for sizes."""
    return len(range(points.shape[-1]))


def check_points(name: str, value: object) -> Tensor:
    """A tensor (..., number of points, features); raises ArgumentError."""
    if not isinstance(value, Tensor):
        kind = type(value).__name__
        raise ArgumentError(f"argument {name!r} must be a tensor, not of type {kind}")
    if value.dim() < 2 or value.shape[-1] == 0:
        raise ArgumentError(
            f"argument {name!r} must have shape (..., points, features), with at least one "
            f"feature; it has shape {tuple(value.shape)}"
        )
    return value


def check_clouds(x: object, y: object) -> None:
    """Raise ArgumentError if these are no clouds of points; `Genred` says what else is wrong."""
    for name, value in (("x", x), ("y", y)):
        if check_points(name, value).shape[-2] == 0:
            raise ArgumentError(f"argument {name!r} has no points; at least one is needed")


def check_each(name: str, value: object, points: Tensor) -> None:
    """Raise ArgumentError if this is no tensor with a number for each point."""
    count = points.shape[-2]
    if not isinstance(value, Tensor) or not value.dim() or value.shape[-1] != count:
        came = tuple(value.shape) if isinstance(value, Tensor) else arguments.shown(value)
        raise ArgumentError(f"argument {name!r} must have shape (..., {count}), not {came}")


_CONVERSIONS = {
    torch.float64: "double()",
    torch.float32: "float()",
    torch.float16: "half()",
    torch.bfloat16: "bfloat16()",
}


def check_dtype(module: nn.Module, x: Tensor) -> None:
    """Raise ArgumentError if the points have another dtype than a parameter of the module's own."""
    if x.dtype not in _CONVERSIONS or autocast.is_on_for(x.device):
        return
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.dtype != x.dtype:
            raise ArgumentError(
                f"argument 'x' has dtype {x.dtype}, but the parameter {name} of this "
                f"{type(module).__name__} has {parameter.dtype}: convert the module with "
                f".{_CONVERSIONS[x.dtype]}, or the arguments with .to({parameter.dtype})"
            )


def positive(name: str, value: object, *, is_single: bool = False) -> list[float]:
    """One or more positive numbers: a number, a list, or a tensor with at most one axis."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    items = plain if isinstance(plain, (list, tuple)) else [plain]
    found = [arguments.number(name, item) for item in items]
    if not found or min(found) <= 0 or (is_single and len(found) > 1):
        wanted = "a positive number" if is_single else "a positive number, or several"
        raise ArgumentError(f"{name} must be {wanted}, not {arguments.shown(plain)}")
    return found


def add_positive(
    module: nn.Module,
    name: str,
    value: object,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    *,
    is_single: bool = False,
    learnable: bool = True,
) -> None:
    """Give a module the parameter `log_name`: the logarithms of positive numbers, or None."""
    parameter = None
    if value is not None:
        logs = [math.log(number) for number in positive(name, value, is_single=is_single)]
        tensor = torch.tensor(logs, device=device, dtype=dtype or torch.get_default_dtype())
        parameter = nn.Parameter(tensor, requires_grad=learnable)
    module.register_parameter(f"log_{name}", parameter)


def positive_numbers(
    module: nn.Module, names: tuple[str, ...]
) -> tuple[tuple[tuple[str, int], ...], list[Tensor]]:
    """Which of these parameters a module has, with their lengths; and the parameters."""
    logs = {f"log_{name}": getattr(module, f"log_{name}") for name in names}
    present = {name: log for name, log in logs.items() if log is not None}
    return tuple((name, log.numel()) for name, log in present.items()), list(present.values())


class Positive:
    """A positive number of a module, or several, whose logarithms are its parameter `log_name`.

    Reading gives a tensor, through which gradients pass; setting takes what the constructor takes.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, module: nn.Module, owner: type) -> Any:
        if module is None:
            return self
        log = getattr(module, f"log_{self.name}")
        return None if log is None else log.exp()

    def __set__(self, module: nn.Module, value: object) -> None:
        log = getattr(module, f"log_{self.name}")
        if log is None:
            raise ArgumentError(f"this module has no {self.name}")
        numbers = torch.tensor(positive(self.name, value), dtype=torch.float64)
        if numbers.numel() not in (1, log.numel()):
            raise ArgumentError(f"{self.name} has {log.numel()} numbers, not {numbers.numel()}")
        with torch.no_grad():
            log.copy_(numbers.log().expand(log.shape))


def shown_values(module: nn.Module, names: tuple[str, ...]) -> str:
    """The positive numbers of a module, as `extra_repr` shows them."""
    return ", ".join(
        f"{name}={_shown(value)}" for name in names if (value := getattr(module, name)) is not None
    )


def _shown(value: Tensor) -> str:
    if value.is_meta or value.numel() > 4:
        return f"({value.numel()} numbers)"
    numbers = [f"{number:.4g}" for number in value.tolist()]
    return numbers[0] if len(numbers) == 1 else f"[{', '.join(numbers)}]"


def reduced(values: Tensor, reduction: str) -> Tensor:
    """The mean or the sum of the values of a batch, or they themselves."""
    if reduction == "none":
        return values
    return values.mean() if reduction == "mean" else values.sum()
