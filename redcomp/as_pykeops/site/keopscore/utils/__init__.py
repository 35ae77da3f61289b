"""Helpers of KeOps that programs call."""
