"""Check explainers and data sets before they are used in a run."""
