"""Code for NVIDIA GPUs: the target, the schedule, the tiled skeleton, the assembler."""
