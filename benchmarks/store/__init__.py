"""Keep scores, maps and the description of a run on disk. Knows no metric and no figure."""
