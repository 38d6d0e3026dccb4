"""Decide how a finding is repaired: probe, choice, several findings at once, configuration."""
