"""Open networks, data and facts about images from what a user types, and again from a findings file."""
