"""Commands that compute nothing: list, validate, schema, check."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from benchmarks.cli.app import FAILED, USER_ERROR, Assignments, app, console, error_console, print_table


class Kind(StrEnum):
    """Kinds of names that `interp-bench list` shows."""

    explainers = "explainers"
    metrics = "metrics"
    models = "models"
    datasets = "datasets"
    presets = "presets"


class Schema(StrEnum):
    """Files whose JSON schema is published."""

    config = "config"
    findings = "findings"


@app.command(name="list")
def list_names(
    kind: Annotated[Kind, typer.Argument(help="Kind of names.")],
    pattern: Annotated[
        str, typer.Option("--filter", help="For models: timm names that match, such as 'resnet*'.")
    ] = "",
) -> None:
    """List the names that a configuration may use."""
    print_table(*_table_of(kind, pattern))


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML file of a run.")], assignments: Assignments = None
) -> None:
    """Report all errors of a configuration, each with its place in the file; compute nothing."""
    from benchmarks.plan.validate import validate

    problems = validate(file, assignments or [])
    for problem in problems:
        what = " ".join(problem.what.split())
        error_console.print(f"[red]{escape(problem.where)}:[/] {escape(what)}", highlight=False)
    if problems:
        error_console.print(f"{file}: {len(problems)} error{'s' * (len(problems) > 1)}", highlight=False)
        raise typer.Exit(USER_ERROR)
    console.print(f"{file} can be run", soft_wrap=True, highlight=False)


@app.command()
def schema(
    of: Annotated[
        Schema, typer.Option(help="config: a run's YAML file; findings: what diagnose writes.")
    ] = Schema.config,
) -> None:
    """Print the JSON schema of a file, for editors and for programs that read it."""
    from benchmarks.config.json_schema import json_schema
    from benchmarks.diagnosis.output.findings_file import findings_schema

    typer.echo(json.dumps(findings_schema() if of is Schema.findings else json_schema(), indent=1))


@app.command()
def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Python file or module with your own explainers.")],
) -> None:
    """Check your own explainers against the contract, in about ten seconds."""
    from benchmarks.checks.explainer import check_plugin

    report = check_plugin(file)
    print_table(
        ("check", "", "detail"),
        [(name, "[green]passed[/]" if ok else "[red]failed[/]", escape(detail)) for name, ok, detail in report.lines()],
    )
    if not report.ok:
        raise typer.Exit(FAILED)


def _table_of(kind: Kind, pattern: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return columns and rows of a list."""
    if kind is Kind.explainers:
        from baselines import explainers

        return ("name", "kind", "title", "source"), [(n, e.kind, e.title, e.source) for n, e in explainers.items()]
    if kind is Kind.metrics:
        from benchmarks.metrics import metrics

        return ("name", "family", "score", "better"), [
            (name, metric.family, score.name, score.direction)
            for name, metric in metrics.items()
            for score in metric.scores
        ]
    if kind is Kind.datasets:
        from interp_core.datasets import datasets

        return ("name", "title", "parameters"), [(n, d.title, ", ".join(d.model_fields)) for n, d in datasets.items()]
    if kind is Kind.presets:
        from benchmarks.config.load import presets

        return ("name", "file"), [(name, str(path)) for name, path in presets().items()]
    import timm

    modules = {name: module for module in timm.list_modules() for name in timm.list_models(module=module)}
    return ("name", "timm module"), [(name, modules.get(name, "")) for name in timm.list_models(pattern)]
