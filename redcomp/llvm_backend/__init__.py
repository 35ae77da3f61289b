"""From nests of loops to LLVM: targets as data, one emitter of values, the host's skeleton, the JIT."""
