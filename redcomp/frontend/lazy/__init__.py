"""Tensors of pairs that are never stored: expressions over arrays, reduced when a sum asks."""
