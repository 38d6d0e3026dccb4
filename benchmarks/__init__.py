"""Runs explanations head-to-head: plan, cells, store, tables, figures, report."""
