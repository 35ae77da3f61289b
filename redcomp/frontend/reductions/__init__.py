"""Reductions of formulas: their derivatives, and what every call of them shares."""
