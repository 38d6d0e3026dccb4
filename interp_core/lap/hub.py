"""Save and load LAP models as folders, and share them on the model hub.

    save_pretrained(lap, "folder", classes=names)     # model.safetensors, config.json, README.md
    lap = from_pretrained("folder")                   # no network
    push_to_hub(lap, "owner/name")
    lap = from_pretrained("owner/name", revision="v1")

The calls are those of huggingface_hub's `PyTorchModelHubMixin`, as functions; the two files are those of
`interp_core.save` under the names a hub expects, and nothing in a folder is a pickle. Only these files are fetched.

Limit: a backbone that `create` did not make must be given to `from_pretrained`, for a folder holds no code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from interp_core.errors import StoreError
from interp_core.lap import checkpoint, saved_files
from interp_core.lap.attach import LapModel

WEIGHTS, DESCRIPTION, CARD = "model.safetensors", "config.json", "README.md"

# "name" or "owner/name"; everything else can only be a folder.
_REPO = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def save_pretrained(
    lap: LapModel,
    folder: str | Path,
    *,
    classes: list[str] | None = None,
    extra: dict[str, Any] | None = None,
) -> Path:
    """Write weights, description and, unless there is one already, a short model card.

    Args:
        lap: the model.
        folder: made if missing.
        classes: names of the classes, kept in the description.
        extra: anything else that can be written as JSON, such as the accuracy; shown on the card.

    Returns:
        The folder.

    Raises:
        StoreError: the folder cannot be written, or `extra` or an argument of `create` is not JSON.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        saved_files.write(lap, folder / WEIGHTS, folder / DESCRIPTION, classes=classes, extra=extra)
        if not (folder / CARD).exists():
            (folder / CARD).write_text(model_card(lap, classes=classes, extra=extra))
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {_first_line(error)}; give a folder that can be written") from error
    return folder


def from_pretrained(
    folder_or_repo: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    backbone: nn.Module | None = None,
    device: str | torch.device = "cpu",
) -> LapModel:
    """The model of a folder, or of a repository on the hub, in evaluation mode.

    Args:
        folder_or_repo: a folder written by `save_pretrained`, which needs no network; where there is no such folder,
            a repository's name.
        revision: branch, tag or commit of the repository.
        token: for a private repository; None for the one you logged in with.
        cache_dir: where repositories are kept; None for huggingface_hub's own place.
        local_files_only: take the repository from the cache or fail.
        backbone: the network to load into, where `save_pretrained` could not know how it was made.
        device: where the model shall be.

    Raises:
        StoreError: no such folder or repository, or its files are missing, damaged or do not fit.
    """
    folder = Path(folder_or_repo)
    if not folder.is_dir():
        if isinstance(folder_or_repo, Path) or not _REPO.fullmatch(folder_or_repo):
            raise StoreError(f"no folder {folder_or_repo}: give one written by save_pretrained, or a repository's name")
        options = {"revision": revision, "token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
        folder = _download(folder_or_repo, options)
    return checkpoint.read(folder / WEIGHTS, folder / DESCRIPTION, backbone=backbone).to(device)


def push_to_hub(
    lap: LapModel,
    repo_id: str,
    *,
    classes: list[str] | None = None,
    extra: dict[str, Any] | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str = "LAP model",
) -> str:
    """Upload what `save_pretrained` writes, making the repository if it is not there.

    Args:
        lap: the model.
        repo_id: "owner/name".
        classes: as for `save_pretrained`.
        extra: as for `save_pretrained`.
        private: whether a new repository is private; None for the account's default.
        token: None for the one you logged in with.
        revision: branch to write to, made if it is not there; None for the main one.
        commit_message: of the one commit made.

    Returns:
        Address of the commit.

    Raises:
        StoreError: the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with TemporaryDirectory() as folder:
        save_pretrained(lap, folder, classes=classes, extra=extra)
        with _hub_errors(f"cannot upload to {repo_id}", "check the name and that your token may write"):
            api.create_repo(repo_id, private=private, exist_ok=True)
            if revision is not None:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id, folder_path=folder, revision=revision, commit_message=commit_message
            )
    return str(commit.commit_url)


def model_card(lap: LapModel, *, classes: list[str] | None = None, extra: dict[str, Any] | None = None) -> str:
    """Text of the card: metadata a hub can read, what the model is and how to load it."""
    backbone = lap.recipe["name"] if lap.recipe else type(lap.backbone).__name__
    facts = {
        "backbone": backbone,
        "classes": lap.info.classes,
        "input channels": lap.info.in_channels,
        "LAP options": json.dumps(lap.options),
        **(extra or {}),
    }
    needs = "" if lap.recipe else ", backbone=..."
    return _CARD.format(
        facts="\n".join(f"| {name} | {value} |" for name, value in facts.items()),
        names=f"\nClass names are in `{DESCRIPTION}`.\n" if classes else "",
        load=f'from_pretrained("folder or owner/name"{needs})',
    )


_CARD = """---
library_name: interp_core
pipeline_tag: image-classification
tags:
- image-classification
- interpretability
- lap
- timm
---

# LAP model

An image classifier with local attention pooling attached: one forward pass gives the logits and a map of where they
came from.

| | |
|---|---|
{facts}
{names}
```python
from interp_core.lap.hub import from_pretrained

lap = {load}
explanation = lap.explain(images)  # .logits (N, K), .map (N, 1, H, W)
```
"""


def _download(repo: str, options: dict[str, Any]) -> Path:
    """Local copy of a repository's weights and description."""
    from huggingface_hub import snapshot_download

    advice = "check its name and revision, your token and the network, or give a folder"
    with _hub_errors(f"no folder {repo}, and cannot get it from the hub", advice):
        return Path(snapshot_download(repo, allow_patterns=[WEIGHTS, DESCRIPTION], **options))


@contextmanager
def _hub_errors(what: str, advice: str) -> Iterator[None]:
    """Errors of huggingface_hub, and of the client beneath it, as errors of ours."""
    from huggingface_hub.errors import HfHubHTTPError

    # Its bases are the client's own error, which changed with the client, and OSError.
    failures: tuple[type[Exception], ...] = (*HfHubHTTPError.__bases__, OSError, ValueError)
    try:
        yield
    except failures as error:
        raise StoreError(f"{what}: {_first_line(error)}; {advice}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
