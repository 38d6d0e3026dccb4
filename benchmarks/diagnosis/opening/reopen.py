"""Open again what a diagnosis was made of, and the networks that were made from it."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.config.errors import ConfigError
from benchmarks.config.weight_files import holds_lap, load_weights
from benchmarks.diagnosis.amend import FACTS, NETWORK
from benchmarks.diagnosis.finding import Diagnosis
from benchmarks.diagnosis.opening.choices import SplitChoice
from benchmarks.diagnosis.opening.data import DataOptions, data_options, open_dataset, open_images
from benchmarks.diagnosis.opening.network import NetworkOptions, network_options, open_subject, weights_digest
from benchmarks.diagnosis.opening.unlabelled import UnlabelledFolder
from benchmarks.diagnosis.subject import Subject
from interp_core.backbone.timm_models import BackboneSpec
from interp_core.datasets import DatasetConfig, Images
from interp_core.errors import one_line
from interp_core.lap.attach import detach
from interp_core.lap.checkpoint import load
from interp_core.lap.model import LapModel
from interp_core.lap.saved_files import file_pair


def reopen_data(
    diagnosis: Diagnosis,
    *,
    data: str | None = None,
    root: Path | None = None,
    assignments: Sequence[str] = (),
    split: SplitChoice = SplitChoice.val,
    limit: int | None = None,
) -> tuple[DatasetConfig, Images]:
    """Open a split of the diagnosed data set, or of another one with the same classes.

    Args:
        diagnosis: says how its images were opened.
        data: name or folder of another data set; None for the diagnosed one.
        root: folder of a registered data set of files; None for the diagnosed one's.
        assignments: parameters of the data set, beside or instead of the diagnosed one's.
        split: images to open.
        limit: maximum number of images.

    Raises:
        ConfigError: the classes differ, or the diagnosis does not say how its images are opened.
    """
    if data is not None:
        options = DataOptions(data, root, tuple(assignments), split, limit)
    else:
        stored = data_options(diagnosis.data)
        merged = (*stored.assignments, *assignments)
        options = replace(stored, root=root or stored.root, assignments=merged, split=split, limit=limit)
    dataset = open_dataset(options)
    if isinstance(dataset, UnlabelledFolder):
        raise ConfigError(
            f"the images of {options.data} have no labels, which a repair and its test need: give --data with a folder "
            f"for each of the classes {', '.join(diagnosis.classes)}"
        )
    if tuple(dataset.classes) != diagnosis.classes:
        raise ConfigError(
            f"data set {options.data} has the classes {', '.join(dataset.classes)}, the diagnosis was made with "
            f"{', '.join(diagnosis.classes)}: give the same data set"
        )
    return dataset, open_images(dataset, options)


def reopen_subject(
    diagnosis: Diagnosis,
    dataset: DatasetConfig,
    image_size: int,
    *,
    model: str | None = None,
    weights: Path | None = None,
    plugins: Sequence[str] = (),
    device: str = "auto",
) -> Subject:
    """Open the network that was diagnosed, with LAP attached.

    Args:
        diagnosis: says how its network was opened.
        dataset: its data set.
        image_size: side of the images in pixels.
        model: path, timm name or function of the network; None for the one in the diagnosis.
        weights: file of its weights; None for the one in the diagnosis.
        plugins: files or modules whose code may run.
        device: name, or "auto".

    Raises:
        ConfigError: the network cannot be opened, or is another one than was diagnosed.
    """
    options = replace(network_options(diagnosis.network, device), plugins=tuple(plugins))
    if model not in (None, options.model, diagnosis.network.get("name")):
        options = replace(options, model=model, weights=weights, arguments=options.arguments if weights else {})
    elif weights is not None:
        options = replace(options, weights=weights)
    subject = open_subject(options, dataset.classes, multi_label=dataset.multi_label, image_size=image_size)
    if weights_digest(subject.lap) != diagnosis.network.get("digest"):
        raise ConfigError(
            f"{options.model} does not have the weights that were diagnosed: regions belong to those weights, so give "
            "the same file, or run interp-bench diagnose on this network"
        )
    subject.lap.backbone_spec = subject.lap.backbone_spec or backbone_spec_of(options, subject.lap)
    return subject


def backbone_spec_of(options: NetworkOptions, lap: LapModel) -> BackboneSpec | None:
    """Return how timm makes the network again, without weights; None for a function or a LAP model."""
    is_timm = ":" not in options.model and not Path(options.model).exists()
    arguments: dict[str, Any] = {"num_classes": lap.num_classes, **options.arguments, "pretrained": False}
    return BackboneSpec(name=options.model, kwargs=arguments) if is_timm else None


def open_after(path: Path, before: Subject) -> Subject:
    """Open a repaired network of the same architecture as the one before.

    Args:
        path: folder that `interp-bench amend` wrote, path of a LAP model, or file of weights.
        before: the network before.

    Raises:
        ConfigError: there is no such network, or the weights do not fit.
        StoreError: a file is damaged.
    """
    network: nn.Module = detach(copy.deepcopy(before.lap))
    stem = path / NETWORK if path.is_dir() else path.with_suffix("") if path.suffix else path
    weights, description = file_pair(stem)
    if weights.is_file() and description.is_file():
        network = load(stem, backbone=network)
    elif path.is_file():
        network = copy.deepcopy(before.lap) if holds_lap(path) else network
        load_weights(network, path)
    else:
        raise ConfigError(f"{path} is no network: give the folder that interp-bench amend wrote, or a file of weights")
    return Subject(
        network.eval().to(before.device),
        before.classes,
        before.statistics,
        explainer=before.explainer.name,
        multi_label=before.multi_label,
        image_size=before.lap.info.size,
    )


def repaired_keys(path: Path) -> tuple[str, ...]:
    """Return the keys of the findings that a folder of `interp-bench amend` was repaired of; none elsewhere.

    Raises:
        ConfigError: the file that says so is damaged.
    """
    file = path / FACTS
    if not file.is_file():
        return ()
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return tuple(str(step["finding"]["key"]) for step in (*content.get("earlier", ()), content))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"cannot read {file}: {one_line(error)}; run interp-bench amend again") from error
