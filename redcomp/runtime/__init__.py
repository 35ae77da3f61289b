"""What runs at a call: the cache of compiled code, the threads, and the launch of host kernels."""
