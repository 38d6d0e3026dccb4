"""Ask every explainer for the share of its map on a cue, in a network that uses the cue and in its twin.

Command:

    interp-bench study pairs results/pairs/lesions.yaml --root isic2150 --user user.safetensors --twin twin.safetensors

Both networks come from files of weights. First the pair is proven: the cue of images that show it is pasted onto
held-out images of another class. The user must change many of its answers to the class of the cue, its twin few; a pair
that fails is not scored. Then each explainer explains the images that show the cue, in both networks, and the shares
inside the cue's masks are compared (`benchmarks.metrics.pair_test`).

It writes NAME.csv with a row for each explainer and image, so that a stopped study continues, NAME_summary.csv and
NAME.md with the table, and NAME.json with proof and provenance. Explainers that need LAP get networks on which LAP was
fitted without labels; these fits are kept in the folder `--work`.

Known limit: all images are held in memory.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor, nn

from baselines import Explainer
from benchmarks.config.load import parse, read_content
from benchmarks.config.weight_files import file_digest
from benchmarks.metrics import Batch
from benchmarks.metrics.pair_test import PairTest
from benchmarks.plan.code_digest import class_digest
from benchmarks.run.applicability import applicability
from benchmarks.run.shard import explain_again
from benchmarks.statistics import summarise_pair
from benchmarks.store.atomic import write_atomically
from benchmarks.store.markdown import markdown_table
from benchmarks.store.provenance import digest, short_commit, write_provenance
from benchmarks.store.score_names import PAIR_EMPTY, PAIR_TEST, PAIR_TWIN, PAIR_USER
from benchmarks.studies.pairs.files import ImageFiles
from benchmarks.studies.pairs.networks import FitImages, FittedNetwork, load_fitted, load_plain, normalise
from benchmarks.studies.pairs.proof import TWIN, USER, prove
from benchmarks.studies.pairs.settings import FilePairSettings
from benchmarks.studies.progress import track
from benchmarks.studies.resumable_table import ResumableTable, read_rows

COMMAND = "interp-bench study pairs"
OUTPUT = Path("results/pairs")
BATCH = 9
SCORES = (PAIR_TEST, PAIR_USER, PAIR_TWIN, PAIR_EMPTY)


@dataclass(frozen=True)
class FilePair:
    """Both networks of a pair, and the images that show its cue.

    Attributes:
        networks: networks by role, plain or with LAP.
        images: (N, 3, H, W), normalised.
        masks: (N, 1, H, W) bool, of the cue.
        ids: N names.
        target: class that the cue speaks for.
    """

    networks: Mapping[str, Mapping[str, nn.Module]]
    images: Tensor
    masks: np.ndarray
    ids: list[str]
    target: int

    def shares(self, explainer: Explainer, floor: float) -> dict[str, np.ndarray] | None:
        """Score an explainer, (N,) by name of the score; None if it can explain neither form of the networks."""
        form = next((form for form, pair in self.networks.items() if _applies(explainer, pair)), None)
        if form is None:
            return None
        pair, explain = self.networks[form], explain_again(explainer, 0, "cpu")
        images, targets = self.images.numpy(), np.full(len(self.images), self.target)
        batches = [
            PairTest(floor=floor)(
                Batch(
                    model=pair[USER],
                    images=images[rows],
                    targets=targets[rows],
                    maps=explain(pair[USER], images[rows], targets[rows]),
                    masks=self.masks[rows],
                    explain=explain,
                    twin=pair[TWIN],
                )
            )
            for rows in (slice(start, start + BATCH) for start in range(0, len(images), BATCH))
        ]
        return {name: np.concatenate([values[name] for values in batches]) for name in batches[0]}


def run(config: Path, root: Path, user: Path, twin: Path, work: Path, output: Path = OUTPUT) -> list[Path]:
    """Prove a pair, score every explainer on it, and write the tables.

    Args:
        config: YAML file with the fields of `FilePairSettings`.
        root: folder of the images and their CSV file.
        user: weights of the network that uses the cue.
        twin: weights of the network that does not.
        work: folder for fits of LAP.
        output: folder of the results.

    Raises:
        InterpError: a setting or a file does not fit, or the pair fails its proof.
    """
    settings = parse(FilePairSettings, read_content(config), str(config))
    files = ImageFiles.read(root, settings.index, settings.image, settings.mask, settings.size)
    weights = {USER: user, TWIN: twin}
    networks = {role: load_plain(settings, path) for role, path in weights.items()}
    proof = prove(settings, files, networks)
    fits = _load_fits(settings, files, weights, work) if settings.lap else {}
    cue_rows = files.with_masks
    pair = FilePair(
        {"plain": networks, **({"lap": {role: fit.network for role, fit in fits.items()}} if fits else {})},
        normalise(settings, files.images(cue_rows)),
        files.masks(cue_rows),
        files.ids(cue_rows),
        settings.target,
    )
    output.mkdir(parents=True, exist_ok=True)
    digests = {role: file_digest(path) for role, path in weights.items()}
    shares = score_explainers(settings, pair, output / f"{settings.name}.csv", digests)
    facts = {
        "proof": proof,
        "settings": settings.model_dump(mode="json"),
        "weights": digests,
        "fits": {role: fit.facts for role, fit in fits.items()},
    }
    return [
        *write_tables(settings, shares, output),
        write_provenance(output / f"{settings.name}.json", facts, command=COMMAND),
    ]


def score_explainers(
    settings: FilePairSettings, pair: FilePair, path: Path, weights: Mapping[str, str]
) -> pd.DataFrame:
    """Score the explainers that are not in the file, adding the rows of one at a time.

    Args:
        settings: of the pair.
        pair: networks and images.
        path: of the file. Rows of other settings or other code are dropped.
        weights: hashes of the weights by role.
    """
    table, commit = ResumableTable(path, ("explainer", "key"), float_format="%.6g"), short_commit()
    explainers = {choice.name: choice.build() for choice in settings.explainers}
    content = settings.model_dump(mode="json", exclude={"explainers"}), weights, class_digest(PairTest)
    units = [
        (name, digest(explainer, class_digest(type(explainer)), content)) for name, explainer in explainers.items()
    ]
    table.drop_others(units)
    for name, key in track(table.missing(units), "Explaining"):
        begin = time.perf_counter()
        shares = pair.shares(explainers[name], settings.floor)
        if shares is None:
            print(f"{name} can explain neither network and is left out", flush=True)
            continue
        seconds = round((time.perf_counter() - begin) / len(pair.ids), 4)
        labels = {"explainer": name, "key": key, "image": pair.ids}
        table.add(*pd.DataFrame({**labels, **shares, "seconds": seconds, "commit": commit}).to_dict("records"))
        print(f"{name}: user {shares[PAIR_USER].mean():.3f}, twin {shares[PAIR_TWIN].mean():.3f}", flush=True)
    return pd.DataFrame(read_rows(path))  # rounded alike, whichever call has computed a row


def write_tables(settings: FilePairSettings, shares: pd.DataFrame, output: Path) -> list[Path]:
    """Write the summary as CSV and as Markdown, best ratio of means first."""
    explainers = {choice.name: choice.build() for choice in settings.explainers}
    rows = [
        {"explainer": name, **summarise_pair({key: table[key].to_numpy(float) for key in SCORES})}
        for name, table in shares.groupby("explainer", sort=False)
    ]
    summary = pd.DataFrame(rows).sort_values("ratio_of_means", ascending=False, ignore_index=True)
    texts = pd.DataFrame(
        {
            "Explainer": [explainers[name].title for name in summary["explainer"]],
            "User": summary["user"].map("{:.3f}".format),
            "Twin": summary["twin"].map("{:.3f}".format),
            "Ratio of means": _with_interval(summary, "ratio_of_means"),
            "Geometric mean of ratios": _with_interval(summary, "ratio"),
            "User has more": _with_interval(summary, "ahead"),
            "Without a share": [f"{row.empty} of {row.n}" for row in summary.itertuples()],
        }
    )
    contents = {
        f"{settings.name}_summary.csv": summary.to_csv(index=False, float_format="%.6g"),
        f"{settings.name}.md": markdown_table(texts, tuple(texts.columns[1:])) + "\n",
    }
    return [
        output / f"{settings.name}.csv",
        *(write_atomically(output / name, text) for name, text in contents.items()),
    ]


def _with_interval(summary: pd.DataFrame, name: str) -> list[str]:
    columns = (summary[name + ending] for ending in ("", "_low", "_high"))
    return [f"{value:.2f} [{low:.2f}, {high:.2f}]" for value, low, high in zip(*columns, strict=True)]


def _applies(explainer: Explainer, pair: Mapping[str, nn.Module]) -> bool:
    return not explainer.needs_masks and all(applicability(explainer, network).applies for network in pair.values())


def _load_fits(
    settings: FilePairSettings, files: ImageFiles, weights: Mapping[str, Path], work: Path
) -> dict[str, FittedNetwork]:
    images = FitImages(settings, files)
    return {role: load_fitted(settings, role, path, images, work) for role, path in weights.items()}
