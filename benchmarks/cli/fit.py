"""`interp-bench fit`: fit the map of one's own network, which stays frozen, on images without labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from benchmarks.cli.app import app, console, print_warning

if TYPE_CHECKING:
    from benchmarks.explaining import FitReport
    from benchmarks.explaining.network import NetworkSource

MAX_NAMES = 5

Weights = Annotated[
    Path | None, typer.Option(help="File of weights, or a folder of Hugging Face: safetensors or a state dict.")
]
Pretrained = Annotated[bool, typer.Option("--pretrained", help="Download timm's own weights.")]
ModelSet = Annotated[
    list[str] | None,
    typer.Option("--model-set", help="Argument of the timm network or function; repeatable.", metavar="KEY=V"),
]
Mean = Annotated[str | None, typer.Option(help="Mean that normalises images, such as 0.5 or 0.485,0.456,0.406.")]
Std = Annotated[str | None, typer.Option(help="Standard deviation that normalises images.")]
Size = Annotated[int | None, typer.Option(min=16, help="Side of the images in pixels; the network's own by default.")]
Classes = Annotated[Path | None, typer.Option(help="Names of the classes: text, one a line, or JSON.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; the best available by default.")]


@app.command()
def fit(
    backbone: Annotated[
        str,
        typer.Option(metavar="NAME|FILE.py:function", help="timm name, hf-hub:owner/name, folder, or your function."),
    ],
    data: Annotated[list[Path], typer.Option(help="Folder of images, with or without classes; repeatable.")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[FOLDER]...", help="More folders of images.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the fitted network; a stopped fit goes on there.")] = Path(
        "lap"
    ),
    weights: Weights = None,
    pretrained: Pretrained = False,
    model_set: ModelSet = None,
    mean: Mean = None,
    std: Std = None,
    image_size: Size = None,
    classes: Classes = None,
    images: Annotated[int, typer.Option(min=2, help="Largest number of images; more are sampled.")] = 2000,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the images; by their number by default.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=2, help="Images of a step.")] = 16,
    memory: Annotated[float | None, typer.Option(help="GiB for the passes of a batch; 1 on a CPU by default.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that read images; one per core by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample, the order and augmentation.")] = 0,
    device: Device = "auto",
) -> None:
    """Fit the map of a trained network on your images. The network stays as it is, and no labels are needed."""
    with console.status("Loading libraries"):
        from benchmarks.explaining import FitOptions, fit_backbone
        from benchmarks.explaining.class_names import read_names
        from benchmarks.run.phase_progress import PhaseProgress

    source = make_source(backbone, weights, pretrained, model_set, mean, std, image_size, device)
    options = FitOptions(images, epochs, batch_size, seed, memory, workers)
    names = () if classes is None else read_names(classes)
    with PhaseProgress(console) as progress:
        report = fit_backbone(
            source, [*data, *(more or [])], output,
            options=options, classes=names, notify=_print_line, report=progress.report,
        )  # fmt: skip
    _print_report(report, backbone)


def _print_line(line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False)


def make_source(
    backbone: str,
    weights: Path | None,
    pretrained: bool,
    model_set: list[str] | None,
    mean: str | None,
    std: str | None,
    image_size: int | None,
    device: str,
) -> NetworkSource:
    """Return what the user says about a network."""
    from benchmarks.config.overrides import parse_assignment
    from benchmarks.explaining.network import NetworkSource

    arguments: dict[str, Any] = dict(map(parse_assignment, model_set or []))
    numbers = read_numbers("--mean", mean), read_numbers("--std", std)
    return NetworkSource(backbone, weights, pretrained, arguments, *numbers, image_size, device)


def read_numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """Read one number or three, comma-separated."""
    from interp_core.errors import InterpError

    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InterpError(f"{option} takes one number or three, comma-separated, got {text!r}") from error


def print_unreadable(unreadable: dict[str, str]) -> None:
    """Name the first few images that were left out."""
    items = list(unreadable.items())
    if items:
        more = f" and {len(items) - MAX_NAMES} more" if len(items) > MAX_NAMES else ""
        print_warning("left out", "; ".join(f"{name}: {reason}" for name, reason in items[:MAX_NAMES]) + more)


def _print_report(report: FitReport, backbone: str) -> None:
    """Print what a fit did, and how its folder is used."""
    from interp_core.training.progress import duration

    print_unreadable(report.unreadable)
    head = "This fit was done before" if report.was_done else "Fitted"
    loss, agreement = report.losses, [100 * value for value in report.agreement]
    lines = [
        f"[bold]{head}[/]: {report.images} images, {report.epochs} epochs, {duration(report.seconds)}",
        f"loss of the order of pixels: {loss[0]:.3f} in the first epoch, {loss[1]:.3f} in the last",
        f"answer kept by the upper quarter of the map: {agreement[0]:.0f} % as attached, {agreement[1]:.0f} % fitted",
        f"answers of the network unchanged: {100 * report.answers_kept:.0f} %",
        f"[bold]{escape(str(report.folder))}[/]",
    ]
    code = f" --backbone {backbone}" if ".py:" in backbone else ""
    lines.append(
        f"Explain images: interp-bench explain {escape(str(report.folder))} IMAGE|FOLDER... --output maps{escape(code)}"
    )
    for line in lines:
        _print_line(line)
