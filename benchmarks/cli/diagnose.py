"""`interp-bench diagnose`: name the causes of a network's answers, confirmed by intervention."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.markup import escape

from benchmarks.cli.app import FAILED, app, colour_word, console, error_console, print_table, print_warning
from benchmarks.diagnosis.opening.choices import FailOn, SplitChoice

if TYPE_CHECKING:
    from benchmarks.diagnosis.finding import Diagnosis
    from benchmarks.diagnosis.opening.data import DataOptions
    from benchmarks.diagnosis.opening.network import NetworkOptions
    from benchmarks.diagnosis.output.baseline import Comparison
    from interp_core.datasets import DatasetConfig

MAX_NAMES = 5

Pairs = Annotated[
    list[str] | None,
    typer.Option("--set", help="Parameter of the data set, such as image_size=128; repeatable.", metavar="KEY=V"),
]


class Gate(NamedTuple):
    """What decides the exit code."""

    fail_on: FailOn | None
    baseline: Diagnosis | None
    only_new: bool


@app.command()
def diagnose(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Path of a LAP model, timm name, or module:function.")],
    data: Annotated[str, typer.Option(help="Registered data set, or a folder of images.")],
    root: Annotated[Path | None, typer.Option(help="Folder of a registered data set of files.")] = None,
    assignments: Pairs = None,
    split: Annotated[SplitChoice, typer.Option(help="Images to diagnose.")] = SplitChoice.val,
    other_split: Annotated[
        SplitChoice | None, typer.Option(help="Another split, in which duplicates of these images are looked for.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of images.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights of a timm name: safetensors or a state dict.")] = None,
    model_set: Annotated[
        list[str] | None,
        typer.Option(help="Argument of the timm network or function, such as pad_type=same.", metavar="KEY=V"),
    ] = None,
    mean: Annotated[str | None, typer.Option(help="Mean that normalises images, such as 0.5 or 0.5,0.4,0.4.")] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviation that normalises images.")] = None,
    plugins: Annotated[
        list[str] | None,
        typer.Option("--plugin", help="Python file or module with your own checks or network; its code is run."),
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Names of the classes of images without labels: text, one a line, or JSON.")
    ] = None,
    explainer: Annotated[str, typer.Option(help="Explainer of the maps; see interp-bench list explainers.")] = "lap",
    metadata: Annotated[Path | None, typer.Option(help="CSV or Parquet file with a column file or id.")] = None,
    checks: Annotated[str | None, typer.Option(help="Names of checks, comma-separated; all by default.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for findings, page and pictures.")] = Path("diagnosis"),
    seed: Annotated[int, typer.Option(help="Seed of samples and permutations.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; the best available by default.")] = "auto",
    fail_on: Annotated[FailOn | None, typer.Option(help="Exit with 1 at such a check or confirmed cause.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Older findings.json to compare with.")] = None,
    fail_on_new: Annotated[
        bool, typer.Option("--fail-on-new", help="Count only causes that the baseline does not have.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(help="JUnit XML file for the checks.")] = None,
) -> None:
    """Find what a network's answers depend on, and confirm it by intervention."""
    from benchmarks.config.overrides import parse_assignment
    from benchmarks.diagnosis.opening.data import DataOptions

    gate = _gate(fail_on, baseline, fail_on_new)
    names = None if checks is None else [name.strip() for name in checks.split(",") if name.strip()]
    images = DataOptions(data, root, tuple(assignments or ()), split, limit)
    with console.status("Loading libraries"):
        from benchmarks.diagnosis.opening.network import NetworkOptions
        from benchmarks.diagnosis.processes import join_processes

        _load_plugins(plugins or [], names)
        processes = join_processes()
    console.quiet = console.quiet or not processes.is_first
    network = NetworkOptions(
        model,
        weights=weights,
        arguments=dict(map(parse_assignment, model_set or [])),
        plugins=tuple(plugins or ()),
        mean=_numbers("--mean", mean),
        std=_numbers("--std", std),
        explainer=explainer,
        device=device,
    )
    extras = {"names": names, "seed": seed, "processes": processes}
    diagnosis = _run(network, images, output, metadata, other_split, classes, extras)
    comparison = _compare(diagnosis, gate.baseline)
    paths = _write(diagnosis, output, junit, gate.fail_on)
    _print_result(diagnosis, comparison, paths)
    _apply(gate, diagnosis, comparison)


def _gate(fail_on: FailOn | None, baseline: Path | None, only_new: bool) -> Gate:
    """Read the baseline before anything is computed or overwritten.

    Raises:
        InterpError: there is no baseline where one is needed, or it cannot be read.
    """
    from benchmarks.diagnosis.output.findings_file import read_findings
    from interp_core.errors import InterpError

    if only_new and baseline is None:
        raise InterpError("--fail-on-new needs an older diagnosis: give --baseline findings.json")
    level = FailOn.warn if only_new and fail_on is None else fail_on
    return Gate(level, None if baseline is None else read_findings(baseline), only_new)


def _load_plugins(plugins: list[str], names: list[str] | None) -> None:
    """Register the checks of the package and of plugins, and look all chosen names up."""
    import benchmarks.diagnosis.checks  # noqa: F401 - registers the checks
    from benchmarks.config.plugins import load_plugin
    from benchmarks.diagnosis.check import checks

    for plugin in plugins:
        load_plugin(plugin)
    for name in names or ():
        checks[name]


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    from interp_core.errors import InterpError

    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InterpError(f"{option} takes one number or three, comma-separated, got {text!r}") from error


def _run(
    network: NetworkOptions,
    options: DataOptions,
    output: Path,
    metadata: Path | None,
    other_split: SplitChoice | None,
    classes: Path | None,
    extras: dict[str, Any],
) -> Diagnosis:
    """Open network and images, run the diagnosis, and show its progress; further processes end with their share."""
    from dataclasses import replace

    from benchmarks.diagnosis.opening.data import describe_data, hash_images, open_dataset, open_images
    from benchmarks.diagnosis.opening.metadata import file_properties
    from benchmarks.diagnosis.opening.network import describe_network, open_subject
    from benchmarks.diagnosis.suite import diagnose as run_suite
    from benchmarks.diagnosis.suite import share_evidence
    from benchmarks.run.phase_progress import PhaseProgress

    with console.status("Opening network and images"):
        dataset = open_dataset(options)
        images = open_images(dataset, options)
        multi_label = dataset.multi_label
        names = _class_names(dataset, classes, other_split)
        subject = open_subject(network, names, multi_label=multi_label, image_size=images.shape[-1])
        about: dict[str, Any] = {"network": describe_network(network, subject), "data": describe_data(options, dataset)}
        if not extras["processes"].is_first:
            share_evidence(subject, images, output, processes=extras["processes"], **about)
            raise typer.Exit
        columns = _read_metadata(metadata, images, getattr(dataset, "root", None))
    with PhaseProgress(console) as progress:
        columns |= file_properties(images, lambda done, total: progress.report("headers read", done, total))
        others = {}
        if other_split is not None:
            other = open_images(dataset, replace(options, split=other_split, limit=None))
            others[other_split.value] = hash_images(other, lambda done, total: progress.report("hashes", done, total))
        return run_suite(
            subject,
            images,
            output,
            metadata=columns,
            others=others,
            report=progress.report,
            **about,
            **extras,
        )


def _class_names(dataset: DatasetConfig, path: Path | None, other_split: SplitChoice | None) -> Sequence[str]:
    """Return the names of the classes: those of the data, else those of a file; none for those of the network.

    Raises:
        ConfigError: the data have names of their own, or a split of images without labels is asked for.
    """
    from benchmarks.config.errors import ConfigError
    from benchmarks.diagnosis.opening.unlabelled import UnlabelledFolder
    from benchmarks.explaining.class_names import read_names

    if not isinstance(dataset, UnlabelledFolder):
        if path is not None:
            raise ConfigError("the classes are named by the data: leave --classes out")
        return dataset.classes
    if other_split is not None:
        raise ConfigError("images without labels have no splits: leave --other-split out")
    print_warning("no labels", f"{dataset.reason}. All its images are taken, and checks that need labels are not run")
    return () if path is None else read_names(path)


def _read_metadata(path: Path | None, images: Any, root: Path | None) -> dict[str, Any]:
    from benchmarks.diagnosis.opening.metadata import read_metadata

    if path is None:
        return {}
    metadata = read_metadata(path, images, root)
    if metadata.unmatched_rows or metadata.unmatched_images:
        print_warning(
            "metadata",
            f"{metadata.unmatched_rows} rows fit no image of the split, {metadata.unmatched_images} images have no row",
        )
    return dict(metadata.columns)


def _compare(diagnosis: Diagnosis, baseline: Diagnosis | None) -> Comparison | None:
    from benchmarks.diagnosis.output.baseline import compare_with_baseline

    return None if baseline is None else compare_with_baseline(diagnosis, baseline)


def _write(diagnosis: Diagnosis, output: Path, junit: Path | None, fail_on: FailOn | None) -> list[Path]:
    from benchmarks.diagnosis.output.findings_file import write_findings
    from benchmarks.diagnosis.output.junit import write_junit
    from benchmarks.diagnosis.output.page import write_page

    paths = [write_findings(output, diagnosis), write_page(diagnosis, output)]
    return paths if junit is None else [*paths, write_junit(junit, diagnosis, fail_on)]


def _print_result(diagnosis: Diagnosis, comparison: Comparison | None, paths: list[Path]) -> None:
    """Print findings, checks, what differs from the baseline, and the files."""
    from benchmarks.diagnosis.output.wording import headline, percent

    accuracy = "" if diagnosis.accuracy is None else f", accuracy {percent(diagnosis.accuracy)}"
    console.print(f"[bold]{headline(diagnosis)}[/] ({diagnosis.data.get('images')} images{accuracy})", highlight=False)
    if diagnosis.findings:
        rows = [
            (str(f.number), colour_word(f.verdict.value), f.severity.value, f.check, escape(f.title))
            for f in diagnosis.findings
        ]
        print_table(("no.", "verdict", "severity", "check", "finding"), rows, title="Findings")
    lines = [(colour_word(c.status.value), escape(c.name), escape(c.sentence)) for c in diagnosis.checks]
    print_table(("status", "check", "result"), lines, title="Checks")
    if comparison is not None:
        _print_comparison(comparison)
    if diagnosis.unreadable:
        items = list(diagnosis.unreadable.items())
        more = f" and {len(items) - MAX_NAMES} more" if len(items) > MAX_NAMES else ""
        print_warning("unreadable", "; ".join(f"{name}: {reason}" for name, reason in items[:MAX_NAMES]) + more)
    for path in paths:
        console.print(f"[bold]{escape(str(path))}[/]", soft_wrap=True, highlight=False)


def _print_comparison(comparison: Comparison) -> None:
    counts = f"{len(comparison.new)} new, {len(comparison.gone)} gone, {len(comparison.changed)} with another verdict"
    console.print(f"Against the baseline: {counts}", highlight=False)
    lines = [f"new: {finding.title} ({finding.verdict})" for finding in comparison.new]
    lines += [f"gone: {finding.title} ({finding.verdict})" for finding in comparison.gone]
    lines += [
        f"changed: {now.title} ({before.verdict} before, {now.verdict} now)" for before, now in comparison.changed
    ]
    for line in lines:
        console.print(f"  {escape(line)}", soft_wrap=True, highlight=False)
    if comparison.differences:
        print_warning("baseline", f"of another {', '.join(comparison.differences)}")


def _apply(gate: Gate, diagnosis: Diagnosis, comparison: Comparison | None) -> None:
    """Exit with 1 where the gate fails, and say why."""
    from benchmarks.diagnosis.output.baseline import gate_failures

    failures = gate_failures(diagnosis, gate.fail_on, comparison if gate.only_new else None)
    for failure in failures:
        error_console.print(f"[red]gate:[/] {escape(failure)}", highlight=False)
    if failures:
        raise typer.Exit(FAILED)
