"""What users pass, checked: each function gives the argument in one form, or names it in an error.

Nothing here compares, hashes or iterates over what it has not looked at: an array has no truth
value, a list no hash, and a generator perhaps no end.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import operator
import reprlib
import sys
import warnings
from collections.abc import Iterable, Mapping, Set
from types import FrameType
from typing import Any

import numpy as np

from redcomp.errors import ArgumentError, KeywordError
from redcomp.limits import MAX_LIST

# Longer ones are nobody's slip of the pen, and comparing them takes time.
_LONGEST_WORD = 100


class _Short(reprlib.Repr):
    """Values in a line."""

    def repr_LazyTensor(self, value: Any, level: int) -> str:  # noqa: N802 (the class's name)
        return f"a {type(value).__name__} of shape {getattr(value, 'shape', 'unknown')}"

    repr_ComplexLazyTensor = repr_LazyTensor  # noqa: N815


_short = _Short()
_short.maxstring = _short.maxother = 80


def shown(value: object) -> str:
    """What an error shows of a value: its `repr` in a line, cut where it is long."""
    try:
        text = _short.repr(value)
    except ValueError:  # Python does not write integers of thousands of digits
        text = f"an integer of {int(value).bit_length():,} bits"  # type: ignore[call-overload]
    return " ".join(text.split())


def text(name: str, value: object, example: str = "") -> str:
    """A text, of Python's own class: another one may have no hash; raises ArgumentError.

    example  a text of the kind, for the error
    """
    if isinstance(value, str):
        return str.__str__(value)
    such = f' such as "{example}"' if example else ""
    raise ArgumentError(f"{name} must be a string{such}, not {shown(value)}")


def one_of(name: str, value: object, choices: Iterable[str]) -> str:
    """One of some words; raises ArgumentError."""
    if isinstance(value, str) and (found := text(name, value)) in choices:
        return found
    hint = nearest(value, choices) if isinstance(value, str) else ""
    raise ArgumentError(f"{name} must be one of {', '.join(choices)}, not {shown(value)}{hint}")


# What other libraries call what is meant.
_ELSEWHERE: Mapping[str, str] = {
    "average": "Mean",
    "cuda": "GPU",
    "dim": "axis",
    "double": "float64",
    "half": "float16",
    "k": "opt_arg",
    "single": "float32",
    "tol": "rtol",
    "weights": "formula2",
}


def nearest(word: str, known: Iterable[str]) -> str:
    """A question for the known words that are nearest to one, whatever their case, or nothing."""
    import difflib  # takes milliseconds, which only mistakes pay

    by_lower = {other.lower(): other for other in known}
    lower = word[:_LONGEST_WORD].lower()
    found = [lower] if lower in by_lower else []
    if len(lower) > 1 and not found:
        found = difflib.get_close_matches(lower, by_lower, n=3)
        found = found or [other for other in by_lower if other.startswith(lower)][:3]
    names = [by_lower[n] for n in found]
    if (same := _ELSEWHERE.get(lower, "").lower()) in by_lower:
        names = [by_lower[same]]
    return f"; did you mean {' or '.join(names)}?" if names else ""


def names_of(function: Any) -> tuple[str, ...]:
    """The names of a function's or a method's parameters, but for `self`."""
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    return tuple(name for name in code.co_varnames[:count] if name != "self")


def refuse_keywords(
    what: str,
    given: Iterable[str],
    known: Iterable[str],
    elsewhere: Iterable[str] = (),
    where: str = "",
) -> None:
    """Raise KeywordError if there are any names that nothing has.

    what       what was called
    known      the names that it has
    elsewhere  names that something else has, and `where` says which
    """
    for name in given:
        if name in elsewhere:
            raise KeywordError(f"{what} has no argument {name!r}: it is for {where}")
        names = list(known)
        listed = f"its arguments are {', '.join(names)}" if names else "it takes none"
        hint = nearest(name, names) or f"; {listed}"
        raise KeywordError(f"{what} has no argument {name!r}{hint}")


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the place in a program that called redcomp, wherever in redcomp this is called."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and _is_between(frame):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_between(frame: FrameType) -> bool:
    """Whether a frame is redcomp's, or PyTorch's, whose functions call redcomp's rules."""
    name: str = frame.f_globals.get("__name__") or ""
    return name.partition(".")[0] in ("redcomp", "torch")


def integer(name: str, value: object) -> int:
    """An integer, of Python or of an array library; raises ArgumentError."""
    if type(value) is int:
        return value
    if _is_single(value):
        with contextlib.suppress(TypeError, ValueError, RuntimeError):
            return operator.index(value)  # type: ignore[arg-type]  # what is none raises
    raise ArgumentError(f"{name} must be an integer, not {shown(value)}")


def switch(name: str, value: object) -> bool:
    """True or False, or 1 or 0; raises ArgumentError."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    with contextlib.suppress(ArgumentError):
        if (found := integer(name, value)) in (0, 1):
            return bool(found)
    raise ArgumentError(f"{name} must be True or False, not {shown(value)}")


def number(name: str, value: object, least: float = -math.inf) -> float:
    """A finite number of at least `least`; raises ArgumentError."""
    refuse_masked(name, value)
    if _is_single(value) and (hasattr(value, "__float__") or hasattr(value, "__index__")):
        with contextlib.suppress(TypeError, ValueError, OverflowError, RuntimeError):
            # Tracers such as that of torch.compile do not follow NumPy's question.
            is_real = isinstance(value, (int, float)) or not np.iscomplexobj(value)  # type: ignore[arg-type]
            found = float(value) if is_real else math.nan  # type: ignore[arg-type]
            if math.isfinite(found) and found >= least:
                return found
    wanted = "a finite number" if least == -math.inf else f"a finite number of at least {least:g}"
    raise ArgumentError(f"{name} must be {wanted}, not {shown(value)}")


def items(name: str, value: object, wanted: str) -> list[Any]:
    """The items of a list or of anything else in an order; raises ArgumentError."""
    is_ordered = not isinstance(value, (str, bytes, Mapping, Set))
    has_no_axes = hasattr(value, "shape") and _is_single(value)
    if not isinstance(value, Iterable) or not is_ordered or has_no_axes:
        raise ArgumentError(f"{name} must be {wanted}, not {shown(value)}")
    try:
        found = list(itertools.islice(value, MAX_LIST + 1))
    except TypeError as error:  # it has no items, though its class has what asks for them
        raise ArgumentError(f"{name} must be {wanted}: {error}") from None
    if len(found) > MAX_LIST:
        raise ArgumentError(f"{name} has more than {MAX_LIST:,} items")
    return found


def refuse_masked(name: str, value: Any) -> None:
    """Raise ArgumentError for an array of NumPy's that masks something, which nothing looks at."""
    ma = sys.modules.get("numpy.ma")  # importing it takes a first call's time
    kind: Any = getattr(ma, "MaskedArray", ())
    if ma is None or not isinstance(value, kind):
        return
    if value is ma.masked or value.dtype.names or ma.is_masked(value):
        raise ArgumentError(
            f"{name} is a masked array, whose mask would be ignored: give .filled(value) of it"
        )


def _is_single(value: object) -> bool:
    """Whether a value is no array, or one without axes."""
    shape = getattr(value, "shape", ())
    return isinstance(shape, tuple) and len(shape) == 0
