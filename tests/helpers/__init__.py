"""Share nets, data and cases between tests."""
