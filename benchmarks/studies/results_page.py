"""Write the page of results, and the results table of the README, from stored runs.

Every number on `docs/results.md`, and between the README's markers, is read from a file under `results/`: the prose
stands in `results_page.md.j2` beside this module.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.store.atomic import write_atomically
from benchmarks.store.markdown import markdown_table
from benchmarks.studies.diagnosis_results import diagnosis_context, diagnosis_sentence
from interp_core.errors import InterpError

PAGE, README, BLOCK = Path("docs/results.md"), Path("README.md"), "results:ranks"
SENTENCE = "results:diagnosis"
TEMPLATE = "results_page.md.j2"
CONTROLS = ("random", "smoothed_random", "centre_gaussian", "edges")
REFERENCES = ("mask",)
SHORTCUTS = ("digits", "tinyimagenet20")
LEVEL = 0.05
CHEAP = 2  # passes forward


@dataclass(frozen=True)
class Contest:
    """Stored tables of a run on LAP networks.

    In these runs the explainer `lap` is the map of the decoders, entitled LAP refined, but for those of `own_contests`.

    Args:
        folder: of the run; its `tables/` were written by `interp-bench report` or `interp-bench study fits`.
        described: folder whose run.json describes all explainers and metrics; by default the same.
        data: the data set, in words.
        network: the network, in words.
    """

    folder: Path
    data: str
    network: str
    described: Path | None = None

    @cached_property
    def record(self) -> dict[str, Any]:
        """run.json of the run."""
        return _json(self.folder / "run.json")

    @cached_property
    def titles(self) -> dict[str, str]:
        """Titles of explainers and metrics by name."""
        record = _json((self.described or self.folder) / "run.json")
        return {str(info["name"]): str(info["title"]) for info in (*record["explainers"], *record["metrics"])}

    @cached_property
    def ranks(self) -> pd.DataFrame:
        """Mean ranks by explainer, the mask aside, best over all metrics first."""
        table = _csv(self.folder / "tables" / "ranks.csv").set_index("explainer")
        return table.drop(list(REFERENCES), errors="ignore").sort_values("mean_rank_all", kind="stable")

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Means with intervals and ranks."""
        return _csv(self.folder / "tables" / "summary.csv")

    @cached_property
    def paired(self) -> pd.DataFrame:
        """Paired differences of LAP refined to every other explainer, the mask aside."""
        table = _csv(self.folder / "tables" / "paired.csv")
        return table[~table["explainer"].isin(REFERENCES)]

    @property
    def lap(self) -> pd.Series:
        """Ranks of LAP refined."""
        return pd.Series(self.ranks.loc["lap"])

    @property
    def runner_up(self) -> tuple[str, float]:
        """Title and mean rank over all metrics of the best other explainer."""
        others = self.ranks["mean_rank_all"].drop("lap")
        return self.titles[str(others.idxmin())], float(others.min())

    @property
    def leader(self) -> tuple[str, float]:
        """Title and mean rank over all metrics of the best explainer."""
        return self.titles[str(self.ranks.index[0])], float(self.ranks["mean_rank_all"].iloc[0])

    @property
    def by_gate(self) -> list[tuple[str, float]]:
        """Titles and mean ranks over the metrics that pass the gate, best first."""
        ranks = self.ranks["mean_rank"].sort_values(kind="stable")
        return [(self.titles[str(name)], float(rank)) for name, rank in ranks.items()]

    @property
    def images(self) -> int:
        """Images that were explained."""
        return int(self.record["dataset"]["evaluated"])

    @property
    def trainings(self) -> int:
        """Seeds of the run."""
        return len(self.record["seeds"])

    @property
    def metrics(self) -> list[str]:
        """Names of the ranked metrics."""
        return list(dict.fromkeys(self.paired["metric"]))

    @property
    def unbeaten(self) -> list[str]:
        """Titles of the metrics in which no explainer is significantly ahead of LAP refined (Wilcoxon, Holm)."""
        behind = self.paired[(self.paired["verdict"] == "behind") & (self.paired["p_holm"] < LEVEL)]
        return [self.titles[name] for name in self.metrics if name not in set(behind["metric"])]

    @property
    def externally_beaten(self) -> list[str]:
        """Titles of the metrics in which an external explainer is significantly ahead of `lap` (Wilcoxon, Holm)."""
        kinds = {info["name"]: info["kind"] for info in self.record["explainers"]}
        behind = self.paired[(self.paired["verdict"] == "behind") & (self.paired["p_holm"] < LEVEL)]
        external = set(behind.loc[behind["explainer"].map(kinds) == "external", "metric"])
        return [self.titles[name] for name in self.metrics if name in external]

    @property
    def level_with_controls(self) -> list[str]:
        """Titles of the metrics in which a control is level with LAP refined or ahead of it by the mean."""
        ranks = self.summary.dropna(subset="rank").pivot_table(index="metric", columns="explainer", values="rank")
        controls = ranks[[name for name in CONTROLS if name in ranks]].min(axis=1)
        return [self.titles[str(name)] for name in ranks.index[controls <= ranks["lap"]]]

    @property
    def best_control(self) -> str:
        """Name of the control with the best mean rank over all metrics."""
        return str(self.ranks["mean_rank_all"].loc[[name for name in CONTROLS if name in self.ranks.index]].idxmin())

    @property
    def cheap(self) -> list[str]:
        """Names of the explainers of at most two passes forward, controls aside, best over all metrics first."""
        names = [str(name) for name in self.ranks.index if name not in CONTROLS]
        return [name for name in names if self.mean(name, "forwards") <= CHEAP]

    def count(self, metric: str) -> int:
        """Return the number of images that a metric could score."""
        return int(self.summary.loc[self.summary["metric"] == metric, "n"].max())

    def place(self, explainer: str) -> int:
        """Return the place of an explainer over all metrics, 1 for the best."""
        return list(self.ranks.index).index(explainer) + 1

    def mean(self, explainer: str, metric: str) -> float:
        """Return the mean score of an explainer."""
        rows = self.summary[(self.summary["explainer"] == explainer) & (self.summary["metric"] == metric)]
        return float(rows["mean"].iloc[0])

    def at_best(self, kind: str) -> list[tuple[str, float]]:
        """Return the two best mean ranks, with titles, when each explainer has the form that suits it best.

        Args:
            kind: "sharp" or "smooth".
        """
        table = _csv(self.folder / "tables" / "ablation_best.csv")
        best = table[table["kind"] == kind].set_index("explainer")["mean_rank"].nsmallest(2)
        return [(self.titles[str(name)], float(rank)) for name, rank in best.items()]


def contests(results: Path) -> dict[str, Contest]:
    """Return the four stored comparisons of LAP refined with external explainers."""
    root, frozen = results / "method", "MobileNetV2, frozen"
    return {
        "digits": Contest(root / "digits", "digits in photographs", "small, trained"),
        "tiny": Contest(root / "tiny", "20 classes of tiny-imagenet", "small, trained"),
        "pets": Contest(root / "pets_fits", "pets", frozen, root / "pets"),
        "imagenet": Contest(root / "imagenet_fit", "ImageNet", frozen, root / "imagenet"),
    }


def own_contests(results: Path) -> dict[str, Contest]:
    """Return the stored comparisons that have the network's own map."""
    root = results / "method"
    return {
        "digits": Contest(root / "digits_own", "digits in photographs", "small, trained"),
        "imagenet": Contest(root / "imagenet_own", "ImageNet", "MobileNetV2, frozen"),
        "imagenet_cheap": Contest(root / "imagenet_cheap", "ImageNet", "MobileNetV2, frozen"),
        "faces": Contest(root / "faces", "faces", "small, trained"),
        "radiographs": Contest(root / "radiographs", "chest radiographs", "MobileNetV3-small, frozen"),
    }


def rank_table(contest: Contest) -> str:
    """Write the mean ranks of LAP refined, all external explainers and the best control as a Markdown table."""
    shown = [name for name in contest.ranks.index if name not in CONTROLS or name == contest.best_control]
    rows = [
        {
            "explainer": contest.titles[name] + (" (best control)" if name in CONTROLS else ""),
            f"mean rank, {len(contest.metrics)} metrics": f"{contest.ranks.loc[name, 'mean_rank_all']:.2f}",
            f"the {contest.lap['metrics']:.0f} that pass": f"{contest.ranks.loc[name, 'mean_rank']:.2f}",
            "passes an image": f"{contest.mean(name, 'forwards'):.0f}",
        }
        for name in shown
    ]
    table = pd.DataFrame(rows)
    return markdown_table(table, list(table.columns[1:]))


def contest_table(entries: dict[str, Contest], link: str) -> str:
    """Write one row per stored comparison as a Markdown table.

    Args:
        entries: the comparisons.
        link: what leads from the page to the folder of results.
    """
    rows = []
    for contest in entries.values():
        title, rank = contest.runner_up
        table = f"{link}/method/{contest.folder.name}/tables/summary.md"
        rows.append(
            {
                "data": f"[{contest.data}]({table})",
                "network": contest.network,
                "images": str(contest.images),
                "trainings": str(contest.trainings),
                "LAP refined, mean rank": f"{contest.lap['mean_rank_all']:.2f}",
                "best other": f"{title} {rank:.2f}",
                "LAP refined, metrics that pass": f"{contest.lap['mean_rank']:.2f}",
                "not significantly beaten": f"{len(contest.unbeaten)} of {len(contest.metrics)}",
                "a control level or ahead": f"{len(contest.level_with_controls)} of {len(contest.metrics)}",
            }
        )
    return markdown_table(
        pd.DataFrame(rows), ["images", "trainings", "LAP refined, mean rank", "LAP refined, metrics that pass"]
    )


def shortcut_table(path: Path) -> dict[str, dict[str, str]]:
    """Read the Markdown table of the shortcut study: one dict of cells per arm."""
    rows = [line.strip("| ").split(" | ") for line in _text(path).splitlines() if line.startswith("| ")]
    header = [cell.strip() for cell in rows[0]]
    table = [[cell.strip(" |") for cell in row] + [""] * (len(header) - len(row)) for row in rows[1:]]
    return {row[0]: dict(zip(header, row, strict=False)) for row in table}


def render(results: Path) -> str:
    """Write the page of results.

    Raises:
        InterpError: a stored table is missing.
    """
    entries, own = contests(results), own_contests(results)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    mosaics = _csv(results / "method" / "mosaics_fit" / "tables" / "summary.csv")
    grid = mosaics[mosaics["metric"] == "grid_pg"].set_index("explainer")
    photographs = _csv(results / "method" / "photographs" / "tables" / "ranks.csv").set_index(["model", "explainer"])
    coverage = _csv(results / "coverage" / "timm.csv")
    return environment.get_template(TEMPLATE).render(
        contests=entries,
        digits_table=rank_table(entries["digits"]),
        own=own["digits"],
        own_table=rank_table(own["digits"]),
        frozen=own["imagenet"],
        frozen_table=rank_table(own["imagenet"]),
        few_passes=own["imagenet_cheap"],
        few_passes_table=rank_table(own["imagenet_cheap"]),
        faces=own["faces"],
        faces_table=rank_table(own["faces"]),
        radiographs=own["radiographs"],
        radiographs_table=rank_table(own["radiographs"]),
        contest_table=contest_table(entries, "../results"),
        grid=grid,
        shortcut={
            name: shortcut_table(results / "method" / f"control_{name}.md") for name in ("digits", "tinyimagenet20")
        },
        imagenet=Contest(results / "method" / "imagenet", "ImageNet", ""),
        photographs=photographs,
        fits=[_json(results / "method" / name / "retrofit.json") for name in ("imagenet", "imagenet_fit")],
        diagnosis=diagnosis_context(results),
        coverage=coverage.groupby("kind")["attached"].agg(["sum", "size"]),
    )


def replace_block(text: str, name: str, block: str) -> str:
    """Return a text with what stands between the markers `<!-- name -->` and `<!-- /name -->` replaced.

    Raises:
        InterpError: the text has no such markers.
    """
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if start not in text or end not in text:
        raise InterpError(f"no markers {start.strip()} ... {end} in the text: put them where the table belongs")
    head, _, tail = text.partition(start)
    return f"{head}{start}\n{block}\n\n{end}{tail.partition(end)[2]}"


def pages(root: Path) -> dict[Path, str]:
    """Return the texts of the generated pages of a checkout, by path.

    Raises:
        InterpError: a stored table is missing, or the README has no markers.
    """
    results = root / "results"
    readme = replace_block(_text(root / README), BLOCK, rank_table(own_contests(results)["imagenet"]))
    readme = replace_block(readme, SENTENCE, diagnosis_sentence(results))
    return {root / PAGE: render(results), root / README: readme}


def outdated(root: Path) -> list[Path]:
    """Return the generated pages of a checkout that are not what the stored results say."""
    return [path for path, text in pages(root).items() if not path.is_file() or _text(path) != text]


def write_pages(root: Path) -> list[Path]:
    """Write the generated pages of a checkout and return the paths of those that changed."""
    texts = {path: text for path, text in pages(root).items() if not path.is_file() or _text(path) != text}
    for path, text in texts.items():
        write_atomically(path, text)
    return list(texts)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InterpError(
            f"cannot read {path}: {error.strerror}; give the top of a checkout with its results"
        ) from error


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(_text(path))
    return content


def _csv(path: Path) -> pd.DataFrame:
    _text(path)
    return pd.read_csv(path)
