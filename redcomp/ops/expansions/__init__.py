"""How operations that targets lack are made of those that they have."""
