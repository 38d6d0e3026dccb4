"""Speed as ratios of times taken in interleaved pairs: `python -m benchmarks.speed` or `pytest benchmarks/speed`."""
