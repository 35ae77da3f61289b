"""KeOps' messages."""

from __future__ import annotations

from typing import Any, NoReturn

import keopscore

CHECK_MARK = "✅"
CROSS_MARK = "❌"


def KeOps_Print(message: str, force_print: bool = False, **kwargs: Any) -> None:  # noqa: N802 (KeOps' name)
    """Print a message if KeOps is verbose."""
    if keopscore.verbose or force_print:
        print(message, **kwargs)


def KeOps_Message(message: str, use_tag: bool = True, **kwargs: Any) -> None:  # noqa: N802
    """Print a message, with KeOps' name before it, if KeOps is verbose."""
    KeOps_Print(f"[KeOps] {message}" if use_tag else message, **kwargs)


def KeOps_Warning(message: str, newline: bool = False) -> None:  # noqa: N802
    """Print a warning if KeOps is verbose."""
    KeOps_Print(("\n" if newline else "") + f"[KeOps] Warning : {message}")


def KeOps_Error(message: str, show_line_number: bool = True) -> NoReturn:  # noqa: N802
    """Raise ValueError with a message."""
    raise ValueError(f"[KeOps] Error : {message}")
