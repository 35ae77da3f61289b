"""Reductions over pairs, compiled."""
