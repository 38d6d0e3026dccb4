"""Imports go one way, as CONTRIBUTING.md says, and in no circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from helpers.shared import ROOT

TOPS = ("interp_core", "baselines", "benchmarks")
FORBIDDEN = [
    ("interp_core", "baselines"),
    ("interp_core", "benchmarks"),
    ("baselines", "benchmarks"),
    ("interp_core.datasets", "interp_core.lap"),
    ("interp_core.datasets", "interp_core.training"),
    ("benchmarks.store", "benchmarks.report"),
]
REPORT_READERS = ("benchmarks.report", "benchmarks.cli", "benchmarks.studies")


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, modules: set[str]) -> Iterator[str]:
    """Yield the project's modules that a file imports, now or later; not those for types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else str(node.module) for name in names)
        else:
            yield from imported(node, modules)


@cache
def graph() -> dict[str, set[str]]:
    """Return the modules that each module imports."""
    paths = {name_of(path): path for top in TOPS for path in sorted((ROOT / top).rglob("*.py"))}
    modules = set(paths)
    return {
        name: {other for other in imported(ast.parse(path.read_text()), modules) if other in modules} - {name}
        for name, path in paths.items()
    }


def test_the_graph_is_that_of_the_project() -> None:
    assert len(graph()) > 400
    assert "interp_core.lap.model" in graph()["benchmarks.diagnosis.subject"]


@pytest.mark.parametrize(("below", "above"), FORBIDDEN)
def test_nothing_below_imports_what_is_above(below: str, above: str) -> None:
    arrows = [(name, other) for name, others in graph().items() for other in others]
    assert not [arrow for arrow in arrows if is_within(arrow[0], below) and is_within(arrow[1], above)]


def test_only_commands_and_studies_import_the_report() -> None:
    readers = {name for name, others in graph().items() if any(is_within(x, "benchmarks.report") for x in others)}
    assert readers
    assert not {name for name in readers if not any(is_within(name, package) for package in REPORT_READERS)}


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
