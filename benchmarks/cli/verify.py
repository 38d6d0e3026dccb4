"""`interp-bench verify`: judge a repair on held-out images, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from benchmarks.cli.amend import Data, Device, Limit, Plugins, Root, Weights
from benchmarks.cli.app import FAILED, app, colour_word, console, print_table
from benchmarks.cli.diagnose import Pairs
from benchmarks.diagnosis.opening.choices import SplitChoice

if TYPE_CHECKING:
    import numpy as np

    from benchmarks.diagnosis.finding import Diagnosis, Finding
    from benchmarks.diagnosis.subject import Subject
    from benchmarks.diagnosis.verifying.verification import Row, Verification
    from interp_core.datasets import Images

FILE = "verify.json"


@app.command()
def verify(
    before: Annotated[
        str, typer.Argument(metavar="BEFORE", help="The network that was diagnosed, or findings.json of its diagnosis.")
    ],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="Folder of interp-bench amend, or weights.")],
    findings: Annotated[
        Path | None, typer.Option(help="findings.json of the diagnosis, or its folder, where BEFORE is a network.")
    ] = None,
    numbers: Annotated[
        list[int] | None,
        typer.Option("--finding", help="Number of a finding; by default those that were repaired; repeatable."),
    ] = None,
    weights: Weights = None,
    data: Data = None,
    root: Root = None,
    assignments: Pairs = None,
    split: Annotated[SplitChoice, typer.Option(help="Held-out images.")] = SplitChoice.test,
    limit: Limit = None,
    metadata: Annotated[Path | None, typer.Option(help="CSV or Parquet file with a column file or id.")] = None,
    groups: Annotated[
        str | None, typer.Option(help="Column of the metadata that makes groups together with the label.")
    ] = None,
    checks: Annotated[
        bool, typer.Option("--checks/--no-checks", help="Run the checks of the diagnosis again on AFTER.")
    ] = True,
    plugins: Plugins = None,
    output: Annotated[Path, typer.Option(help=f"Folder for {FILE}.")] = Path("verified"),
    seed: Annotated[int, typer.Option(help="Seed of samples and of the bootstrap.")] = 0,
    device: Device = "auto",
) -> None:
    """Judge a repair: answers under intervention, evidence on the cause, and what got worse."""
    from benchmarks.diagnosis.output.findings_file import read_findings
    from benchmarks.run.phase_progress import PhaseProgress

    findings, model = (Path(before), None) if findings is None else (findings, before)
    diagnosis, folder = read_findings(findings), findings if findings.is_dir() else findings.parent
    with console.status("Opening networks and images"):
        from benchmarks.diagnosis.opening.network import weights_digest
        from benchmarks.diagnosis.opening.reopen import open_after, reopen_data, reopen_subject, repaired_keys
        from benchmarks.diagnosis.verify import verify as compare

        chosen = _choose_findings(diagnosis, numbers or [], repaired_keys(after))
        dataset, images = reopen_data(
            diagnosis, data=data, root=root, assignments=assignments or (), split=split, limit=limit
        )
        first = reopen_subject(
            diagnosis, dataset, images.shape[-1], model=model, weights=weights, plugins=plugins or (), device=device
        )
        second = open_after(after, first)
        columns = None if groups is None else _read_groups(metadata, groups, images, getattr(dataset, "root", None))
    with PhaseProgress(console) as progress:
        verification = compare(
            first,
            second,
            images,
            chosen,
            folder,
            groups=columns,
            diagnose=_rerun(diagnosis, images, output, seed) if checks else None,
            seed=seed,
            report=progress.report,
        )
    description = {"name": str(after), "digest": weights_digest(second.lap)}
    data_used = {
        **verification.data,
        "name": diagnosis.data.get("name") if data is None else data,
        "split": split.value,
    }
    update = {"before": diagnosis.network, "after": description, "data": data_used}
    _finish(verification.model_copy(update=update), output)


def _choose_findings(diagnosis: Diagnosis, numbers: Sequence[int], keys: Sequence[str]) -> list[Finding]:
    """Return the findings to verify: by number, else those that were repaired, else all confirmed causes.

    Raises:
        InterpError: there are none.
    """
    from benchmarks.diagnosis.amending.config import AmendChoice, look_up_finding
    from benchmarks.diagnosis.finding import Verdict
    from interp_core.errors import InterpError

    if numbers:
        return [look_up_finding(AmendChoice(finding=number), diagnosis) for number in numbers]
    repaired = [finding for finding in diagnosis.findings if finding.key in keys]
    causes = repaired or [finding for finding in diagnosis.findings if finding.verdict is Verdict.cause]
    if not causes:
        raise InterpError("the diagnosis confirmed no cause: say which finding to verify, --finding 1")
    return causes


def _read_groups(path: Path | None, column: str, images: Images, root: Path | None) -> np.ndarray:
    """Return the group (N,) of each image: its label and its value in a column.

    Raises:
        InterpError: there is no such column.
    """
    import numpy as np

    from benchmarks.diagnosis.opening.metadata import read_metadata
    from interp_core.errors import InterpError, UnknownNameError

    if path is None:
        raise InterpError("--groups names a column of a file: give --metadata FILE")
    columns = read_metadata(path, images, root).columns
    if column not in columns:
        raise UnknownNameError("column", column, columns)
    if images.targets.ndim == 2:
        return np.array([str(value) for value in columns[column]])
    return np.array(
        [f"{label} with {column} {value}" for label, value in zip(images.targets, columns[column], strict=True)]
    )


def _rerun(diagnosis: Diagnosis, images: Images, output: Path, seed: int) -> Callable[[Subject], Diagnosis]:
    """Return a function that runs the checks of a diagnosis on another network."""
    import benchmarks.diagnosis.checks  # noqa: F401 - registers the checks
    from benchmarks.diagnosis.check import checks
    from benchmarks.diagnosis.opening.network import weights_digest
    from benchmarks.diagnosis.suite import diagnose

    names = [check.name for check in diagnosis.checks if check.name in checks]

    def run(subject: Subject) -> Diagnosis:
        return diagnose(
            subject, images, output / "after", names=names, network={"digest": weights_digest(subject.lap)}, seed=seed
        )

    return run


def _finish(verification: Verification, output: Path) -> None:
    """Write and print the result, and exit with 1 where the repair did not succeed."""
    from benchmarks.store.atomic import write_atomically

    path = write_atomically(output / FILE, verification.model_dump_json(indent=1) + "\n")
    print_table(("", "before", "after", "difference", "", "n"), map(_cells, verification.rows))
    lines = [(colour_word(r.status.value), str(r.number), escape(r.title), r.sentence) for r in verification.findings]
    print_table(("status", "no.", "finding", "result"), lines, title="Findings")
    if verification.still_present:
        console.print("The checks still confirm: " + escape(", ".join(verification.still_present)), highlight=False)
    console.print(f"{colour_word(verification.status.value)} {escape(verification.sentence)}", highlight=False)
    console.print(f"[bold]{escape(str(path))}[/]", soft_wrap=True, highlight=False)
    if not verification.succeeded:
        raise typer.Exit(FAILED)


def _cells(row: Row) -> tuple[str, ...]:
    """Return a row of the table."""
    from benchmarks.diagnosis.output.wording import number

    interval = "" if row.low is None or row.high is None else f" [{row.low:+.3f}, {row.high:+.3f}]"
    difference = number(None) if row.difference is None else f"{row.difference:+.3f}{interval}"
    return (
        escape(row.name),
        number(row.before),
        number(row.after),
        escape(difference),
        colour_word(row.verdict.value),
        str(row.n),
    )
