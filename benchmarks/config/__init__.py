"""Step 1 of a run: its configuration, read from YAML and checked."""
