"""Packages that call KeOps, timed with redcomp in its place and with KeOps itself."""
