"""`redcomp.Genred`: the public face that looks at its arguments to find their array library."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from redcomp import foreign
from redcomp.frontend.reductions.genred import GenredBase, in_order

if TYPE_CHECKING:
    import numpy as np
    import torch

    from redcomp.typing import Backend


class Genred(GenredBase):
    __doc__ = GenredBase.__doc__

    @overload
    def __call__(  # type: ignore[overload-overlap]  # numbers alone are no call of either
        self,
        *args: np.ndarray[Any, np.dtype[Any]] | float | Sequence[float],
        backend: Backend = "auto",
        device_id: int = -1,
        ranges: Sequence[Any] | None = None,
        out: np.ndarray[Any, np.dtype[Any]] | None = None,
        **named: np.ndarray[Any, np.dtype[Any]] | float | Sequence[float],
    ) -> np.ndarray[Any, np.dtype[Any]]: ...

    @overload
    def __call__(
        self,
        *args: torch.Tensor | float | Sequence[float],
        backend: Backend = "auto",
        device_id: int = -1,
        ranges: Sequence[Any] | None = None,
        out: torch.Tensor | None = None,
        **named: torch.Tensor | float | Sequence[float],
    ) -> torch.Tensor: ...

    @overload
    def __call__(
        self,
        *args: Any,
        backend: Backend = "auto",
        device_id: int = -1,
        ranges: Sequence[Any] | None = None,
        out: Any = None,
        **named: Any,
    ) -> Any: ...

    def __call__(
        self,
        *args: Any,
        backend: Backend = "auto",
        device_id: int = -1,
        ranges: Sequence[Any] | None = None,
        out: Any = None,
        **named: Any,
    ) -> Any:
        """As `redcomp.torch.Genred` if an argument is a tensor, else as `redcomp.numpy.Genred`.

        Arrays of other libraries that are on a GPU are computed with there, by PyTorch's memory and
        streams, if PyTorch has been imported; the result is an array of theirs on the GPU.
        """
        if named:
            args = in_order(self, self.positions, args, named)
        options: Any = {"backend": backend, "device_id": device_id, "ranges": ranges, "out": out}
        torch = sys.modules.get("torch")  # without it nothing can be a tensor
        if torch is not None and any(isinstance(arg, torch.Tensor) for arg in args):
            import redcomp.torch.genred as face

            return face.call(self, *args, **options)
        import redcomp.numpy.genred as face_of_host

        try:
            return face_of_host.call(self, *args, **options)
        except foreign.ElsewhereError:
            if torch is None or not any(map(foreign.is_elsewhere, args)):
                raise
        return self._on_device(*args, **options)

    def _on_device(self, *args: Any, **options: Any) -> Any:
        """The result for arrays of other libraries on a GPU."""
        import redcomp.torch.genred as face

        found = face.call(self, *args, **options)
        parameters = self.reduction.parameters
        named = ((f"argument {p.name!r}", a) for p, a in zip(parameters, args, strict=True))
        library = foreign.library_of(named)
        return found if library is None or options.get("out") is not None else library.made(found)
