"""What is done with a nest of loops on each kind of machine, up to a kernel that can be called."""
