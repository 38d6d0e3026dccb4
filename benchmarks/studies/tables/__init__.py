"""Combine stored runs into one table."""
