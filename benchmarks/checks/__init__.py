"""Try an explainer or a data set before a run is made of it."""
