"""Code generation shared by all targets: the emitter, a step of the pair loop, LLVM's syntax."""
