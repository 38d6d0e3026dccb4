"""Experiments that show what training gives the maps; results are written to results/method/."""
