"""Speed and start-up time of redcomp on NVIDIA GPUs beside other ways to compute the same."""
