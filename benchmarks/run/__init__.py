"""3. Compute what a run's plan asks for."""
