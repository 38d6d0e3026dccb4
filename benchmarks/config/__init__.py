"""1. What a run is: its YAML file, checked."""
