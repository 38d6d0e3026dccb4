from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import benchmarks.store

pytestmark = pytest.mark.slow

HEAVY = ("matplotlib", "jinja2", "torch", "timm")
IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1].split(","):
    importlib.import_module(name)
print(",".join(sorted(set(sys.modules) & set(sys.argv[2].split(",")))))
print(",".join(sorted(name for name in sys.modules if name.startswith(("benchmarks.report", "benchmarks.statistics")))))
"""


def test_the_store_imports_no_report_and_no_heavy_library() -> None:
    names = [module.name for module in pkgutil.iter_modules(benchmarks.store.__path__, "benchmarks.store.")]
    assert "benchmarks.store.run_folder" in names
    command = [sys.executable, "-c", IMPORT_ALL, ",".join(names), ",".join(HEAVY)]
    heavy, reports = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[:2]
    assert (heavy, reports) == ("", "")
