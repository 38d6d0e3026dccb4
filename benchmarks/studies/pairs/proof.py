"""Prove a pair of networks from files by pasting the cue onto images of another class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from benchmarks.config.errors import ConfigError
from benchmarks.studies.pairs.files import ImageFiles, paste_cues
from benchmarks.studies.pairs.networks import normalise
from benchmarks.studies.pairs.settings import FilePairSettings
from interp_core.training import predict

USER, TWIN = "user", "twin"


def prove(settings: FilePairSettings, files: ImageFiles, networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Paste the cue onto held-out images of another class, and count the answers that change to its class.

    Raises:
        ConfigError: the answers of one network prove that it is not what the pair needs.
    """
    proof, donors = settings.proof, files.with_masks
    order = torch.randperm(len(files.rows), generator=torch.Generator().manual_seed(proof.seed)).tolist()
    numbers = files.first_rows(proof.column, proof.value, order[: proof.held_out])
    if not numbers or not donors:
        raise ConfigError(
            f"no held-out image without a mask has {proof.column} = {proof.value}, or no image has a mask"
        )
    images = files.images(numbers)
    pasted = paste_cues(images, files.images(donors), files.masks(donors))
    facts: dict[str, Any] = {"images": len(numbers), "cues": len(donors)}
    for role, network in networks.items():
        before, after = (
            predict(network, normalise(settings, pixels)).argmax(1) == settings.target for pixels in (images, pasted)
        )
        facts[role] = {"other_answers": int((~before).sum()), "follows": round(float(after[~before].float().mean()), 4)}
    if not facts[USER]["follows"] >= proof.least_user or not facts[TWIN]["follows"] <= proof.most_twin:
        user, twin = (facts[role]["follows"] for role in (USER, TWIN))
        raise ConfigError(
            f"the pair is refused: a pasted cue turns {user:.0%} of the user's answers into its class "
            f"({proof.least_user:.0%} needed) and {twin:.0%} of the twin's ({proof.most_twin:.0%} allowed)"
        )
    return facts
