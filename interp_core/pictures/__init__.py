"""Draw explanations and find their top regions."""
