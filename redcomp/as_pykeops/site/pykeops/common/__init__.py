"""Helpers of KeOps that know both array libraries."""

from . import utils

__all__ = ["utils"]
