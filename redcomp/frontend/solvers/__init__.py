"""What is built on reductions: linear systems, and clusters of points."""
