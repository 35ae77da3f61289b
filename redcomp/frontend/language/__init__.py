"""The language of formulas: from their text and their aliases to values."""
