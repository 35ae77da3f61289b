"""From nests of loops to LLVM: targets as data, one emitter, the host's skeleton, the JIT."""
