"""The real case: coloured patches in skin lesion photographs, a network that uses them, and its twin."""
