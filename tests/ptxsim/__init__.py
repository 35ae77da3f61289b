"""Executes PTX with NumPy and checks what it does to memory."""
