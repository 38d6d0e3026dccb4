"""Read annotations in the formats people keep them in."""
