"""Draw explanations."""
