"""Share code between explainers; nothing here is an explainer."""
