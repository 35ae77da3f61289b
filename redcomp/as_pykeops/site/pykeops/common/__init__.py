"""Helpers of KeOps that know both array libraries."""
