"""The backends: from a nest of loops to a loaded kernel, for hosts and for GPUs."""
