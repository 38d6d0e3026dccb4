"""Step 2 of a run: the cells to compute, and their keys."""
