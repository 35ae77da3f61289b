"""Settings of threads, which redcomp has of its own: REDCOMP_NUM_THREADS says how many."""

from __future__ import annotations

from typing import Any

from redcomp import config as environment

from .settings import Settings


class OpenMPConfig(Settings):
    """What KeOps says about threads."""

    use_OpenMP: bool = True  # noqa: N815 (KeOps' name)
    cxx_compiler: str | None = None

    def check_compiler_for_openmp(self) -> bool:
        """Whether calls use several threads: always, and without a compiler."""
        return True

    def check_openmp_libraries(self) -> bool:
        """Whether the libraries for threads are there: none is needed."""
        return True

    def get_brew_prefix(self) -> None:
        """KeOps asks for a compiler's folder here; there is no compiler."""

    def values(self) -> dict[str, Any]:
        """How many threads there are."""
        return {"threads": environment.num_threads()}
