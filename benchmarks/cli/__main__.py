"""`python -m benchmarks.cli`, for where the command is not installed."""

from __future__ import annotations

from benchmarks.cli import main

main()
