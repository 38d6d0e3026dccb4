"""Inspect, divide and trace convolutional networks."""
