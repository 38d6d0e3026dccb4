"""`interp-bench study NAME`: run a study again, or continue one that was stopped.

Every study prints its progress and the files it writes, and lies in `benchmarks.studies`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

from benchmarks.cli.app import FAILED, app, console, print_warning
from interp_core.errors import InterpError

study = typer.Typer(help="Run one of the studies behind the results; a stopped one continues.", no_args_is_help=True)
app.add_typer(study, name="study")

METHOD = Path("results/method")
DIAGNOSIS = Path("results/diagnosis")
Output = Annotated[Path, typer.Option(help="Folder for the files.")]
Backbone = Annotated[str, typer.Option(help="timm name of the trained network.")]
Weights = Annotated[Path, typer.Option(help="Its trained weights.")]
Kwargs = Annotated[str, typer.Option(help="Arguments of timm.create_model, as JSON.")]
Normalise = Annotated[str | None, typer.Option(help="Mean and std of the weights' images, as JSON.")]
Classes = Annotated[int, typer.Option(help="Number of classes of the weights.")]
WeightsFile = Annotated[Path, typer.Option(help="Safetensors file to write; a JSON file lies beside it.")]
Epochs = Annotated[int | None, typer.Option(help="Epochs of each training.")]
Seeds = Annotated[str, typer.Option(help="Seeds of the trainings, comma-separated.")]


@study.command()
def coverage(
    names: Annotated[
        list[str] | None, typer.Argument(help="Networks of timm; all convolutional and hybrid ones by default.")
    ] = None,
    output: Annotated[Path, typer.Option(help="CSV file to write.")] = Path("results/coverage/timm.csv"),
) -> None:
    """Attach LAP to every network of timm; takes an hour or two."""
    from benchmarks.studies import coverage

    _print_paths(coverage.run(names or [], output))


@study.command()
def retrofit(
    backbone: Backbone,
    weights: Weights,
    data: Annotated[list[str], typer.Option(help="Data set as JSON:split:count; repeatable.")],
    out: WeightsFile,
    kwargs: Kwargs = "{}",
    attach: Annotated[str, typer.Option(help="Arguments of interp_core.attach, as JSON; refine adds decoders.")] = "{}",
    normalise: Normalise = None,
    classes: Classes = 1000,
    recipe: Annotated[str, typer.Option(help="Fields of the recipe, as JSON.")] = "{}",
    own: Annotated[str, typer.Option(help="Terms of the redistribution, as JSON.")] = '["own_order"]',
    effects: Annotated[str, typer.Option(help="Fields in which the effects' recipe differs, as JSON.")] = "{}",
    teach: Annotated[str, typer.Option(help="Terms of the effects, as JSON.")] = '["order"]',
    begin: Annotated[Path | None, typer.Option(help="File of an earlier fit on the same backbone.")] = None,
    area: Annotated[float, typer.Option(help="Weight of the term that keeps maps small.")] = 4.0,
    ready_made: Annotated[Path | None, typer.Option(help="Also write the redistribution alone.")] = None,
) -> None:
    """Fit LAP on a trained network whose weights stay frozen, without labels."""
    from benchmarks.config.load import parse
    from benchmarks.studies.retrofit import RetrofitSettings, run

    options = {"backbone": backbone, "weights": weights, "data": data, "out": out}
    options |= {"classes": classes, "begin": begin, "area": area, "ready_made": ready_made}
    texts = {"kwargs": kwargs, "attach": attach, "recipe": recipe, "own": own, "effects": effects, "teach": teach}
    texts |= {} if normalise is None else {"normalise": normalise}
    options |= {name: _parse(name, text) for name, text in texts.items()}
    _print_paths(run(parse(RetrofitSettings, options, "study retrofit")))


@study.command()
def linear_probe(
    backbone: Backbone,
    weights: Weights,
    data: Annotated[str, typer.Option(help="Data set of the new classes, as JSON.")],
    out: WeightsFile,
    kwargs: Kwargs = "{}",
    normalise: Normalise = None,
    classes: Classes = 1000,
) -> None:
    """Give a trained network new classes by a linear probe on its frozen features."""
    from benchmarks.config.load import parse
    from benchmarks.config.models import ModelConfig
    from benchmarks.studies.linear_probe import run

    fields = {"name": "plain", "backbone": backbone, "checkpoint": weights, "kwargs": _parse("kwargs", kwargs)}
    fields |= {} if normalise is None else {"normalise": _parse("normalise", normalise)}
    model = parse(ModelConfig, fields, "the network")
    _print_paths(run(model, classes, _parse("data", data), out))


@study.command()
def faces(
    root: Annotated[Path, typer.Option(help="Folder as CelebA is distributed.")],
    attributes: Annotated[
        str, typer.Option(help="Comma-separated.")
    ] = "Arched_Eyebrows,Pointy_Nose,Smiling,Wearing_Lipstick",
    size: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 64,
    epochs: Epochs = None,
    output: Output = METHOD,
) -> None:
    """Train LAP with regions from landmarks on CelebA; writes faces.*."""
    from benchmarks.studies import faces

    _print_paths(faces.run(root, _split(attributes), size, epochs, output))


@study.command()
def shortcut(
    data: Annotated[str, typer.Option(help="digits or tinyimagenet20.")] = "digits",
    root: Annotated[Path, typer.Option(help="Folder of tinyimagenet20, or its archive.")] = Path("tinyimagenet20.tar"),
    seeds: Seeds = "0,1,2",
    arms: Annotated[str, typer.Option(help="Comma-separated; all by default.")] = "",
    train: Annotated[int | None, typer.Option(help="Number of training images.")] = None,
    epochs: Epochs = None,
    output: Output = METHOD,
    report: Annotated[bool, typer.Option("--report", help="Table and figure from the stored rows alone.")] = False,
) -> None:
    """Train networks on images with a shortcut; writes control_DATA.*."""
    from benchmarks.studies.shortcut.study import run

    _print_paths(run(data, root, _integers(seeds), _split(arms), train, epochs, output, report_only=report))


@study.command()
def fragility(
    data: Annotated[str, typer.Option(help="digits or tinyimagenet20.")] = "digits",
    root: Annotated[Path, typer.Option(help="Folder of tinyimagenet20, or its archive.")] = Path("tinyimagenet20.tar"),
    seeds: Seeds = "0,1,2,3,4",
    arms: Annotated[str, typer.Option(help="Comma-separated; all by default.")] = "",
    train: Annotated[int | None, typer.Option(help="Number of training images.")] = None,
    epochs: Epochs = None,
    output: Output = METHOD,
    report: Annotated[bool, typer.Option("--report", help="Table from the stored rows alone.")] = False,
) -> None:
    """Compare LAP with its plain twin on images with a shortcut; writes fragility_DATA.*."""
    from benchmarks.studies.shortcut.fragility import run

    _print_paths(run(data, root, _integers(seeds), _split(arms), train, epochs, output, report_only=report))


@study.command()
def xray(
    root: Annotated[Path, typer.Option(help="Folder in RSNA's layout.")],
    seeds: Seeds = "0,1,2",
    folds: Annotated[int, typer.Option(help="Folds in a repetition.")] = 5,
    arms: Annotated[str, typer.Option(help="Comma-separated.")] = "plain,lap,lap_boxes,plain_by_file",
    judge: Annotated[Literal["test", "val"], typer.Option("--on", help="Images to judge.")] = "test",
    epochs: Epochs = None,
    output: Output = METHOD,
    pictures: Annotated[
        Path | None, typer.Option(help="File for a figure with X-rays in it, not to be published.")
    ] = None,
) -> None:
    """Train LAP on chest X-rays with labels of images alone; writes medical*."""
    from benchmarks.studies.xray.study import run

    _print_paths(run(root, _integers(seeds), folds, _split(arms), judge, epochs, output, pictures))


@study.command()
def pairs(
    config: Annotated[Path, typer.Argument(metavar="FILE", help="YAML file of the pair.")],
    root: Annotated[Path, typer.Option(help="Folder of the images and their CSV file.")],
    user: Annotated[Path, typer.Option(help="Weights of the network that uses the cue.")],
    twin: Annotated[Path, typer.Option(help="Weights of the network that does not.")],
    work: Annotated[Path, typer.Option(help="Folder that keeps fits of LAP.")] = Path("pairs-work"),
    output: Output = Path("results/pairs"),
) -> None:
    """Compare maps on a cue in a network that uses it and in its twin; writes NAME.*."""
    from benchmarks.studies.pairs.study import run

    _print_paths(run(config, root, user, twin, work, output))


@study.command()
def fits(
    every: Annotated[Path, typer.Argument(help="Folder of a run of all explainers on one fit.")],
    others: Annotated[list[Path], typer.Argument(metavar="FITS...", help="Runs of LAP and an external explainer.")],
    into: Annotated[Path | None, typer.Option(help="Folder for tables/; by default the last run's.")] = None,
    alike: Annotated[float, typer.Option(help="Largest difference of an external explainer's score.")] = 1e-5,
) -> None:
    """Combine fits of LAP with external explainers that were computed once."""
    from benchmarks.studies.tables import fits

    _print_paths(fits.run(every, others, into, alike))


@study.command()
def networks(folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]) -> None:
    """Compare the networks of a run by their own maps; writes tables/side_by_side.*."""
    from benchmarks.studies.tables import networks

    _print_paths(networks.run(folder))


@study.command()
def twins(
    pairs: Annotated[list[str], typer.Argument(metavar="LAP:PLAIN...", help="Folders of both runs of a pair.")],
    output: Output = METHOD,
) -> None:
    """Compare the accuracy of LAP networks with that of their plain twins; writes twins.*."""
    from benchmarks.studies.tables import twins

    _print_paths(twins.run([_pair(pair) for pair in pairs], output))


@study.command()
def redistribution(output: Output = METHOD, epochs: Epochs = None) -> None:
    """Draw the contributions of one logit on every grid; writes redistribution.png."""
    from benchmarks.studies import redistribution

    _print_paths(redistribution.run(output, epochs or redistribution.EPOCHS))


@study.command()
def planted(
    output: Output = DIAGNOSIS,
    seeds: Annotated[int, typer.Option(min=1, help="Networks of each planted setting.")] = 1,
    controls: Annotated[int, typer.Option(min=0, help="Networks of each kind of control.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="Added to all seeds, for networks never looked at.")] = 0,
    agreements: Annotated[str, typer.Option(help="Of the cue with the label, comma-separated.")] = "0.7,0.9,0.98,1",
    rivals: Annotated[bool, typer.Option(help="Whether rivals look for the causes, too.")] = True,
    work: Annotated[Path | None, typer.Option(help="Folder that keeps the trained networks.")] = None,
) -> None:
    """Look for planted causes with a diagnosis and its rivals; writes planted.*; takes an hour or two."""
    from benchmarks.studies.planted import study as planted_causes

    shares = [float(part) for part in agreements.split(",")]
    methods = planted_causes.METHODS if rivals else {"diagnose": planted_causes.diagnose_planted}
    paths = planted_causes.run(
        output, agreements=shares, seeds=seeds, controls=controls, offset=offset, methods=methods, work=work
    )
    _print_paths(paths)


@study.command()
def repairs(
    output: Output = DIAGNOSIS,
    seeds: Seeds = "10",
    work: Annotated[Path | None, typer.Option(help="Folder that keeps the trained networks.")] = None,
) -> None:
    """Repair networks with planted causes by their findings, and by other methods; writes repairs.*."""
    from benchmarks.studies.planted import repair

    _print_paths(repair.run(output, seeds=_integers(seeds), work=work))


@study.command()
def lesions(
    root: Annotated[Path, typer.Option(help="Folder of the skin lesions and their index.csv.")],
    user: Annotated[Path, typer.Option(help="Weights of the network that uses the patches.")],
    twin: Annotated[Path, typer.Option(help="Weights of the network that does not.")],
    output: Output = DIAGNOSIS,
    seeds: Seeds = "0,1,2,3,4",
    work: Annotated[Path, typer.Option(help="Folder for the diagnoses.")] = Path("lesions"),
) -> None:
    """Diagnose and repair a network that decides by coloured patches; writes lesions.*."""
    from benchmarks.studies.lesions import study as lesions_study

    _print_paths(lesions_study.run(root, user, twin, output, seeds=_integers(seeds), work=work))


@study.command()
def trained(
    chest: Annotated[Path, typer.Option(help="Folder of the radiographs and their index.csv.")],
    faces: Annotated[Path, typer.Option(help="Folder of the faces and their index.csv.")],
    pneumonia: Annotated[Path, typer.Option(help="Weights of the network of radiographs.")],
    male: Annotated[Path, typer.Option(help="Weights of the network of faces.")],
    output: Output = DIAGNOSIS,
    work: Annotated[Path, typer.Option(help="Folder for the diagnoses.")] = Path("trained"),
) -> None:
    """Diagnose a trained network of radiographs and one of faces; writes trained*."""
    from benchmarks.studies.trained import study as trained_networks

    _print_paths(trained_networks.run(chest, faces, pneumonia, male, output, work=work))


@study.command()
def page(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Top of a checkout with its results.")] = Path(),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a page is out of date.")] = False,
) -> None:
    """Write docs/results.md and the table of the README from the stored results."""
    from benchmarks.studies.results_page import outdated, write_pages

    paths = outdated(root) if check else write_pages(root)
    _print_paths(paths)
    if check and paths:
        print_warning("out of date", "run interp-bench study page")
        raise typer.Exit(FAILED)


def _parse(name: str, text: str) -> Any:
    """Parse the JSON of an option.

    Raises:
        InterpError: it is not JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InterpError(f"--{name} must be JSON, got {text}: {error}") from error


def _split(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _integers(text: str) -> list[int]:
    """Parse comma-separated integers.

    Raises:
        InterpError: they are none.
    """
    try:
        return [int(number) for number in _split(text)]
    except ValueError as error:
        raise InterpError(f"seeds must be integers with commas between them, got {text}") from error


def _pair(text: str) -> tuple[Path, Path]:
    """Split the two folders of a pair.

    Raises:
        InterpError: they are not two.
    """
    folders = text.split(":")
    if len(folders) != 2:
        raise InterpError(f"give the run of LAP and that of its plain twin as LAP:PLAIN, got {text}")
    return Path(folders[0]), Path(folders[1])


def _print_paths(paths: Sequence[Path]) -> None:
    for path in paths:
        console.print(escape(str(path)), soft_wrap=True, highlight=False)
