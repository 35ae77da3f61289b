"""`record`: frozen dataclasses with slots, whose methods are made together.

Before Python 3.13, `dataclasses` makes each method of each class by an `exec` of its own, which for
all that an import of redcomp loads would take half of its time.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Callable[[Any], Any]:
        """What type checkers are told."""
        return lambda function: function


C = TypeVar("C", bound=type)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def record(cls: C) -> C:
    """The class as `dataclasses.dataclass(frozen=True, slots=True)` makes it.

    It has no keyword-only fields and no `InitVar`s.
    """
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    methods = {**_SHARED, **_written(made)}
    for name in methods.keys() - cls.__dict__.keys():
        setattr(made, name, methods[name])
    return made  # type: ignore[no-any-return]


def _written(made: Any) -> dict[str, Any]:
    """The methods that depend on the fields."""
    fields = dataclasses.fields(made)
    names: dict[str, Any] = {"_set": object.__setattr__, "_missing": dataclasses.MISSING}
    parameters, values = [], []
    for field in fields:
        name = field.name
        value = name
        if field.default_factory is not dataclasses.MISSING:
            names[f"_make_{name}"], default = field.default_factory, "_missing"
            value = f"_make_{name}() if {name} is _missing else {name}"
        elif field.default is not dataclasses.MISSING:
            names[f"_default_{name}"], default = field.default, f"_default_{name}"
        else:
            default = ""
        if field.init:
            parameters.append(f"{name}={default}" if default else name)
            values.append(f"_set(self, {name!r}, {value})")
        elif default:
            value = f"_make_{name}()" if default == "_missing" else default
            values.append(f"_set(self, {name!r}, {value})")
    if hasattr(made, "__post_init__"):
        values.append("self.__post_init__()")
    compared = [field.name for field in fields if field.compare]
    hashed = [f.name for f in fields if (f.compare if f.hash is None else f.hash)]
    text = f"""
def __init__({", ".join(["self", *parameters])}):
    {"; ".join(values) or "pass"}
def __eq__(self, other):
    if other.__class__ is not self.__class__:
        return NotImplemented
    return {_tuple("self", compared)} == {_tuple("other", compared)}
def __hash__(self):
    return hash({_tuple("self", hashed)})
"""
    exec(text, names)
    return {name: names[name] for name in ("__init__", "__eq__", "__hash__")}


def _tuple(of: str, fields: Sequence[str]) -> str:
    return "(" + "".join([f"{of}.{name}, " for name in fields]) + ")"


@reprlib.recursive_repr()
def _repr(self: Any) -> str:
    shown = [f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr]
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _refuse_to_set(self: Any, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _setstate(self: Any, state: Sequence[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


_SHARED: dict[str, Any] = {
    "__repr__": _repr,
    "__setattr__": _refuse_to_set,
    "__delattr__": _refuse_to_delete,
    "__getstate__": _getstate,
    "__setstate__": _setstate,
}
