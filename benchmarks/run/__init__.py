"""Step 3 of a run: train networks, select images, explain them, score the maps."""
