"""Calls of methods with too few arguments, too many, or unknown ones: redcomp's own errors."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from redcomp import arguments
from redcomp.errors import KeywordError

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)


def checked(function: F) -> F:
    """A function or method whose arguments, if it cannot take them, are a KeywordError.

    Python finds that out, so a call that is right costs one call of a function more.
    """

    @functools.wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        try:
            return function(*given, **named)
        except TypeError:
            _refuse_misfits(function, given, named)
            raise

    made: Any = call
    return made  # type: ignore[no-any-return]  # a function like the one that was given


def with_checked_methods(owner: C) -> C:
    """The class, whose constructor and all of whose own public methods are checked."""
    made: dict[Any, Any] = {}
    for name, method in list(vars(owner).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if inspect.isfunction(method):
            # Two names of one method stay two names of one.
            setattr(owner, name, made.setdefault(method, checked(method)))
        elif isinstance(method, (classmethod, staticmethod)):
            setattr(owner, name, type(method)(checked(method.__func__)))
    return owner


def _refuse_misfits(function: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Raise KeywordError if these are no arguments of the function."""
    signature = inspect.signature(function)
    try:
        signature.bind(*given, **named)
        return
    except TypeError as error:
        found = str(error)
    is_constructor = function.__name__ == "__init__"
    name = type(given[0]).__name__ if is_constructor else function.__name__.strip("_")
    own = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    if not any(p.kind is p.VAR_KEYWORD for p in own):
        arguments.refuse_keywords(name, named, [p.name for p in own])
    listed = ", ".join(str(p.replace(annotation=p.empty)) for p in own)
    raise KeywordError(f"{name}({listed}): {found}")
