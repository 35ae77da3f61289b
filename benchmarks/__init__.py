"""Speed, memory and start-up time of redcomp beside other ways to compute the same sums."""
