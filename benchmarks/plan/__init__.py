"""2. What a run has to compute, and under which keys."""
