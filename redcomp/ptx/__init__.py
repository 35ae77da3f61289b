"""Code generation for NVIDIA GPUs: targets, schedules, the tiled loops, the assembler."""
