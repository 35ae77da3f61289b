"""What every target shares: the emitter, a step of the pair loop, and how LLVM spells things."""
