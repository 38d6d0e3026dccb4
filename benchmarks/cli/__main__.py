"""`python -m benchmarks.cli`, for environments without the installed command."""

from __future__ import annotations

from benchmarks.cli import main

main()
