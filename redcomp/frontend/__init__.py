"""From what users write to the IR: formulas, aliases, and what is built on them."""
