"""`interp-bench amend`: repair a copy of a network of what a diagnosis found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from benchmarks.cli.app import app, console
from benchmarks.cli.diagnose import Pairs
from benchmarks.diagnosis.opening.choices import SplitChoice

if TYPE_CHECKING:
    from benchmarks.diagnosis.amend import Amended
    from benchmarks.diagnosis.amending.config import AmendChoice
    from benchmarks.diagnosis.finding import Diagnosis
    from benchmarks.diagnosis.repairs import Repair
    from benchmarks.diagnosis.repairs.base import Boxes
    from benchmarks.diagnosis.subject import Subject
    from interp_core.datasets import Images

Findings = Annotated[Path | None, typer.Argument(metavar="FINDINGS", help="findings.json, or its folder.")]
Data = Annotated[str | None, typer.Option(help="Another data set or folder; the diagnosed one by default.")]
Root = Annotated[Path | None, typer.Option(help="Folder of a registered data set of files.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Maximum number of images.")]
Plugins = Annotated[
    list[str] | None, typer.Option("--plugin", help="Python file or module with your own network; its code is run.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; the best available by default.")]
Model = Annotated[str | None, typer.Option(help="The diagnosed network, where it has moved.")]
Weights = Annotated[Path | None, typer.Option(help="Its weights, where they have moved.")]


@app.command()
def amend(
    findings: Findings = None,
    numbers: Annotated[list[int] | None, typer.Option("--finding", help="Number of a finding; repeatable.")] = None,
    together: Annotated[
        bool, typer.Option("--together", help="Repair all findings at once, as one cause in several forms.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="Configuration that the page of a diagnosis offers.")] = None,
    model: Model = None,
    weights: Weights = None,
    data: Data = None,
    root: Root = None,
    assignments: Pairs = None,
    split: Annotated[SplitChoice, typer.Option(help="Images to train on.")] = SplitChoice.train,
    limit: Limit = None,
    repair: Annotated[
        str | None, typer.Option(help="exchange, distil, inpaint, forbid, region, last_layer or augment.")
    ] = None,
    repair_set: Annotated[
        list[str] | None,
        typer.Option(help="Parameter of the repair, such as learning_rate=1e-4; repeatable.", metavar="KEY=V"),
    ] = None,
    boxes: Annotated[
        int | None, typer.Option(min=1, help="Use the boxes or masks of the object of so many training images.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of the training.")] = None,
    plugins: Plugins = None,
    output: Annotated[Path, typer.Option(help="Folder for the repaired network.")] = Path("amended"),
    seed: Annotated[int, typer.Option(help="Seed of all draws.")] = 0,
    device: Device = "auto",
) -> None:
    """Repair a copy of a network, so that a cause that was found no longer decides."""
    path, diagnosis, choices = _read_choices(findings, numbers or [], config)
    with console.status("Opening network and images"):
        from benchmarks.diagnosis.opening.reopen import reopen_data, reopen_subject

        wanted = None if repair is None else _build_repair(repair, repair_set or [])
        dataset, images = reopen_data(
            diagnosis, data=data, root=root, assignments=assignments or (), split=split, limit=limit
        )
        subject = reopen_subject(
            diagnosis, dataset, images.shape[-1], model=model, weights=weights, plugins=plugins or (), device=device
        )
        masks = None if boxes is None else _choose_boxes(images, boxes, seed)
    options = {"repair": wanted, "boxes": masks, "epochs": epochs, "seed": seed}
    if together and len(choices) > 1:
        diagnosis, choices = _join(diagnosis, choices, path.parent)
    steps = _repair_in_turn(subject, diagnosis, choices, path.parent, images, options)
    _save(steps, output, path, diagnosis)


def _read_choices(
    findings: Path | None, numbers: list[int], config: Path | None
) -> tuple[Path, Diagnosis, list[AmendChoice]]:
    """Return the path of the findings, the diagnosis, and what is to be repaired.

    Raises:
        InterpError: neither or both ways are used, or a finding does not exist.
    """
    from benchmarks.diagnosis.amending.config import AmendChoice, look_up_finding, read_amend_config
    from benchmarks.diagnosis.output.findings_file import findings_path, read_findings
    from interp_core.errors import InterpError

    if config is not None:
        if findings is not None or numbers:
            raise InterpError("--config says which findings are repaired: leave FINDINGS and --finding out")
        content, diagnosis = read_amend_config(config)
        return findings_path(content.findings), diagnosis, list(content.amend)
    if findings is None or not numbers:
        raise InterpError("say what to repair: interp-bench amend out/findings.json --finding 1, or --config FILE")
    diagnosis = read_findings(findings)
    choices = [AmendChoice(finding=number) for number in numbers]
    for choice in choices:
        look_up_finding(choice, diagnosis)
    return findings_path(findings), diagnosis, choices


def _build_repair(name: str, assignments: Sequence[str]) -> Repair:
    """Build a repair from its name and parameters.

    Raises:
        ConfigError: a parameter is unknown or wrong.
        UnknownNameError: there is no such repair.
    """
    from benchmarks.config.load import parse
    from benchmarks.config.overrides import parse_assignment
    from benchmarks.diagnosis.repairs import repairs

    return parse(repairs[name], dict(map(parse_assignment, assignments)), f"repair {name}")


def _choose_boxes(images: Images, count: int, seed: int) -> Boxes:
    """Return indices and masks of at most `count` images that have a box or mask of the object.

    Raises:
        InterpError: no image has one.
    """
    import numpy as np
    import torch

    from interp_core.errors import InterpError

    rows = np.flatnonzero(images.areas(np.arange(len(images))) > 0)
    if not len(rows):
        raise InterpError("no training image has a box or mask of the object: leave --boxes out")
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:count])
    parts = list(images.batches([rows]))
    read = torch.from_numpy(np.concatenate([indices for indices, _ in parts]))
    return read, torch.from_numpy(np.concatenate([batch.masks for _, batch in parts]))


def _join(diagnosis: Diagnosis, choices: Sequence[AmendChoice], folder: Path) -> tuple[Diagnosis, list[AmendChoice]]:
    """Return a diagnosis whose first chosen finding stands for all that are chosen, and that choice."""
    from benchmarks.diagnosis.amending.joined import join_findings

    chosen = [diagnosis.finding(choice.finding) for choice in choices]
    joined = join_findings(chosen, folder)
    others = [finding for finding in diagnosis.findings if finding.number != joined.number]
    first = next(choice for choice in choices if choice.finding == joined.number)
    return diagnosis.model_copy(update={"findings": (joined, *others)}), [first]


def _repair_in_turn(
    subject: Subject,
    diagnosis: Diagnosis,
    choices: Sequence[AmendChoice],
    folder: Path,
    images: Images,
    options: dict[str, Any],
) -> list[Amended]:
    """Repair one finding after the other, each on the network that the last repair left."""
    from benchmarks.diagnosis.amend import amend as repair_finding
    from benchmarks.diagnosis.amending.config import look_up_finding
    from benchmarks.run.phase_progress import PhaseProgress

    steps: list[Amended] = []
    for choice in choices:
        finding = look_up_finding(choice, diagnosis)
        console.print(f"Finding {finding.number}: {escape(finding.title)}", highlight=False)
        with PhaseProgress(console) as progress:
            amended = repair_finding(
                steps[-1].subject if steps else subject,
                finding,
                folder,
                images,
                **{**options, "repair": options["repair"] or _repair_of_terms(choice, finding.terms)},
                detector=subject,
                report=lambda done, total: progress.report("epochs trained", done, total),
            )
        console.print(f"  {amended.repair.title}: {escape(amended.reason)}", soft_wrap=True, highlight=False)
        steps.append(amended)
    return steps


def _repair_of_terms(choice: AmendChoice, proposed: tuple[dict[str, Any], ...]) -> Repair | None:
    """Return the repair with the terms of a configuration; None where they are those that the diagnosis proposes."""
    from benchmarks.diagnosis.repairs.forbid import ForbidCue
    from benchmarks.diagnosis.repairs.region import KeepToRegion

    if not choice.terms or choice.terms == proposed:
        return None
    weights = {str(term.get("name")): float(term.get("weight", 1.0)) for term in choice.terms}
    if "region" in weights:
        return KeepToRegion(weight=weights["region"])
    return ForbidCue(weight=weights.get("forbid", 0.0), exchange=weights.get("exchange", 0.0))


def _save(steps: Sequence[Amended], output: Path, path: Path, diagnosis: Diagnosis) -> None:
    """Write the network after the last repair, and print numbers of each."""
    from benchmarks.diagnosis.amend import describe_step, save_amended

    earlier = [describe_step(step) for step in steps[:-1]]
    facts = {"findings": str(path), "network before": diagnosis.network, "data": diagnosis.data, "earlier": earlier}
    weights = save_amended(steps[-1], output, command="interp-bench amend", facts=facts)
    for step in steps:
        for name, value in step.facts.items():
            text = f"{value:.3f}" if isinstance(value, float) else str(value)
            console.print(f"  {escape(name)}: {text}", soft_wrap=True, highlight=False)
    console.print(f"[bold]{escape(str(weights))}[/]", soft_wrap=True, highlight=False)
    command = f"interp-bench verify {path} {output} --split test"
    console.print("The network that was diagnosed is unchanged. Judge the repair on held-out images:", highlight=False)
    console.print(f"  {escape(command)}", soft_wrap=True, highlight=False)
