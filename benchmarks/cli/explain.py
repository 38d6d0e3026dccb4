"""`interp-bench explain`: explain one's own images with a fitted network, or with a backbone as it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from benchmarks.cli.app import FAILED, app, console
from benchmarks.cli.fit import (
    Classes,
    Device,
    Mean,
    ModelSet,
    Pretrained,
    Size,
    Std,
    Weights,
    make_source,
    print_unreadable,
)
from benchmarks.explaining.formats import Format

if TYPE_CHECKING:
    from benchmarks.explaining import ExplainReport
    from benchmarks.explaining.network import OpenNetwork

SHOWN = 10  # images whose answers are printed


@app.command()
def explain(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="[LAP] IMAGE|FOLDER...",
            help="Folder that interp-bench fit wrote, left out with --backbone; then images or folders of images.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder for overlays, sheet and page.")] = Path("maps"),
    classes: Classes = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes explained, the most likely first.")] = 1,
    steps: Annotated[int, typer.Option(min=0, help="Gradient steps on each image that improve its map.")] = 0,
    formats: Annotated[
        list[Format] | None, typer.Option("--format", help="Kind of files; repeatable. [default: png]")
    ] = None,
    regions: Annotated[int, typer.Option(min=1, help="Largest number of boxes.")] = 3,
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE.py:function", help="Network without a fit, or the code that a fit needs."),
    ] = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
    model_set: ModelSet = None,
    mean: Mean = None,
    std: Std = None,
    image_size: Size = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images of a pass.")] = 16,
    device: Device = "auto",
) -> None:
    """Show what a network looked at in your images, in one pass each."""
    with console.status("Loading libraries"):
        from benchmarks.explaining import ExplainOptions, explain_images
        from benchmarks.explaining.class_names import read_names
        from benchmarks.explaining.images import list_images
        from benchmarks.run.phase_progress import PhaseProgress

    folder, images = _split_paths(paths, backbone)
    list_images(images)  # before a network is opened, which takes longer
    names = () if classes is None else read_names(classes)
    settings = (weights, pretrained, model_set, mean, std, image_size, device)
    with console.status("Opening the network"):
        opened = _open(folder, backbone, settings)
    options = ExplainOptions(top, steps, tuple(formats or (Format.png,)), regions, batch_size=batch_size)
    with PhaseProgress(console) as progress:
        report = explain_images(
            opened, images, output, classes=names, options=options,
            report=lambda done, total: progress.report("images explained", done, total),
        )  # fmt: skip
    _print_report(report, opened)
    if report.unreadable:
        raise typer.Exit(FAILED)


def _split_paths(paths: list[str], backbone: str | None) -> tuple[str | None, list[str]]:
    """Return the folder of a fit, if any, and the images.

    Raises:
        ConfigError: there is neither a fit nor a backbone, or no image.
    """
    from benchmarks.config.errors import ConfigError
    from benchmarks.config.networks import lap_files

    is_fit = lap_files(paths[0]) is not None
    if not is_fit and backbone is None:
        raise ConfigError(
            f"{paths[0]} holds no fitted network: give the folder that interp-bench fit wrote first, or --backbone "
            "NAME --pretrained"
        )
    images = paths[1:] if is_fit else paths
    if not images:
        raise ConfigError("there is nothing to explain: give images, or folders of images")
    return (paths[0] if is_fit else None), images


def _open(folder: str | None, backbone: str | None, settings: tuple) -> OpenNetwork:  # type: ignore[type-arg]
    from benchmarks.explaining.network import open_network

    if backbone is None:
        assert folder is not None
        return open_network(make_source(folder, *settings))
    return open_network(make_source(backbone, *settings), folder)


def _print_report(report: ExplainReport, opened: OpenNetwork) -> None:
    """Print the first answers, what was left out, and the files."""
    for row in report.images[:SHOWN]:
        answers = ", ".join(f"{entry.name} {entry.probability:.3f}" for entry in row.classes)
        console.print(f"{escape(row.file)}: {escape(answers)}", soft_wrap=True, highlight=False)
    if len(report.images) > SHOWN:
        console.print(f"and {len(report.images) - SHOWN} more", highlight=False)
    print_unreadable(report.unreadable)
    count = len(report.images)
    map_name = {"fitted": "fitted map", "ready-made": "ready-made map"}.get(
        opened.state, "map as attached, without a fit"
    )
    console.print(f"{count} image{'s' if count != 1 else ''} explained by the {map_name}", highlight=False)
    for path in report.files or ([report.folder] if count else []):
        console.print(f"[bold]{escape(str(path))}[/]", soft_wrap=True, highlight=False)
