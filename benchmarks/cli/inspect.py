"""Commands that compute nothing: list, validate, schema, check."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from benchmarks.cli.app import FAILED, MENDABLE, Sets, app, console, errors, show


class Things(StrEnum):
    """What `interp-bench list` knows."""

    explainers = "explainers"
    metrics = "metrics"
    models = "models"
    datasets = "datasets"
    presets = "presets"


@app.command(name="list")
def list_things(
    things: Annotated[Things, typer.Argument(help="What to list.")],
    pattern: Annotated[
        str, typer.Option("--filter", help="For models: timm names that match, such as 'resnet*'.")
    ] = "",
) -> None:
    """What can be named in a configuration."""
    show(*_listing(things, pattern))


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML file of a run.")], set: Sets = None
) -> None:
    """Name all that is wrong with a configuration, each with its place in the file; nothing is computed."""
    from benchmarks.plan.validate import validate as validated

    findings = validated(file, set or [])
    for finding in findings:
        errors.print(f"[red]{escape(finding.where)}:[/] {escape(' '.join(finding.what.split()))}", highlight=False)
    if findings:
        errors.print(f"{file}: {len(findings)} to mend", highlight=False)
        raise typer.Exit(MENDABLE)
    console.print(f"{file} can be run", soft_wrap=True, highlight=False)


@app.command()
def schema() -> None:
    """Print the JSON schema of a configuration, for editors."""
    from benchmarks.config.json_schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=1))


@app.command()
def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Python file or module with explainers of your own.")],
) -> None:
    """Hold explainers of your own to the contract, on a task of ten seconds."""
    from benchmarks.checks.explainer import check_plugin

    found = check_plugin(file)
    rows = [(name, "[green]holds[/]" if ok else "[red]fails[/]", escape(detail)) for name, ok, detail in found.lines()]
    show(("check", "", "detail"), rows)
    if not found.ok:
        raise typer.Exit(FAILED)


def _listing(things: Things, pattern: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    if things is Things.explainers:
        from baselines import explainers

        return ("name", "kind", "title", "source"), [(n, e.kind, e.title, e.source) for n, e in explainers.items()]
    if things is Things.metrics:
        from benchmarks.metrics import metrics

        return ("name", "family", "score", "better"), [
            (name, metric.family, score.name, score.direction)
            for name, metric in metrics.items()
            for score in metric.scores
        ]
    if things is Things.datasets:
        from interp_core.datasets import datasets

        return ("name", "title", "parameters"), [(n, d.title, ", ".join(d.model_fields)) for n, d in datasets.items()]
    if things is Things.presets:
        from benchmarks.config.load import presets

        return ("name", "file"), [(name, str(path)) for name, path in presets().items()]
    import timm

    modules = {name: module for module in timm.list_modules() for name in timm.list_models(module=module)}
    return ("name", "timm module"), [(name, modules.get(name, "")) for name in timm.list_models(pattern)]
