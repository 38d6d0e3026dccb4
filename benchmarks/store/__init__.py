"""Step 4 of a run: its files, read and written. Knows no metric and no figure."""
