"""Save LAP models as folders and share them on the Hugging Face hub.

    lap.save_pretrained("folder", classes=names)      # model.safetensors, config.json, README.md
    lap = LapModel.from_pretrained("folder")          # needs no network
    lap.push_to_hub("owner/name")
    lap = LapModel.from_pretrained("owner/name", revision="v1")

The methods are those of huggingface_hub's `PyTorchModelHubMixin`. The two files are those of `interp_core.save` under
the names that a hub expects. Nothing in a folder is a pickle, and nothing else is downloaded.

Limit: a folder holds no code. A backbone that `create` did not make must be passed to `from_pretrained`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch
from torch import nn

from interp_core.backbone.inspect import BackboneInfo
from interp_core.backbone.timm_models import BackboneSpec
from interp_core.errors import StoreError, one_line
from interp_core.lap.options import LapOptions
from interp_core.lap.saved_files import check_numbers, read_description, read_weights, write_files

WEIGHTS, DESCRIPTION, CARD = "model.safetensors", "config.json", "README.md"

# "name" or "owner/name". Anything else can only be a folder.
_REPOSITORY = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


class HubMixin(nn.Module):
    """Saving and loading of LAP models.

    The class knows files only. A subclass builds the model that a description stands for, see `_from_description`.
    """

    backbone: nn.Module
    info: BackboneInfo
    options: LapOptions
    backbone_spec: BackboneSpec | None

    @classmethod
    def _from_description(cls, description: dict[str, Any], backbone: nn.Module | None) -> Self:
        """Build the model that a description stands for, with random weights.

        Args:
            description: content of the file.
            backbone: the network to use; None to create it from the description.
        """
        raise NotImplementedError

    def release(self) -> nn.Module:
        """Give the backbone back."""
        raise NotImplementedError

    def write_files(
        self,
        weights_path: Path,
        description_path: Path,
        *,
        classes: list[str] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Write weights and description to two files.

        Other arguments are as in `save_pretrained`.

        Raises:
            StoreError: `extra` or an argument of `create` cannot be written as JSON.
        """
        description = {
            "recipe": self.backbone_spec,
            "options": asdict(self.options),
            "classes": classes,
            "extra": extra or {},
        }
        write_files(self, description, weights_path, description_path)

    @classmethod
    def read_files(cls, weights_path: Path, description_path: Path, *, backbone: nn.Module | None = None) -> Self:
        """Build the model saved in two files.

        It is in evaluation mode, on the CPU.

        Args:
            weights_path: file with the weights.
            description_path: file with the description.
            backbone: the network to load into; None to create it from the description.

        Raises:
            StoreError: a file is missing, damaged or of another format, or the backbone does not fit.
        """
        description = read_description(description_path)
        if backbone is None and description.get("recipe") is None:
            raise StoreError(f"{description_path} does not say how its backbone is made: give load(..., backbone=...)")
        check_numbers(description, weights_path, description_path)
        try:
            lap = cls._from_description(description, backbone)
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError) as error:
            raise StoreError(
                f"{description_path} does not describe a LAP model: {one_line(error)}; save it again"
            ) from error
        try:
            read_weights(lap, weights_path)
        except StoreError:
            lap.release()
            raise
        return lap.eval()

    def save_pretrained(
        self, folder: str | Path, *, classes: list[str] | None = None, extra: dict[str, Any] | None = None
    ) -> Path:
        """Write weights, description and a short model card.

        An existing card stays.

        Args:
            folder: created if missing.
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
            self.write_files(folder / WEIGHTS, folder / DESCRIPTION, classes=classes, extra=extra)
            if not (folder / CARD).exists():
                (folder / CARD).write_text(self._model_card(classes, extra or {}), encoding="utf-8")
        except OSError as error:
            raise StoreError(f"cannot write {folder}: {one_line(error)}; give a folder that can be written") from error
        return folder

    @classmethod
    def from_pretrained(
        cls,
        folder_or_repo: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        backbone: nn.Module | None = None,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Load the model of a folder or of a repository.

        It is in evaluation mode.

        Args:
            folder_or_repo: a folder written by `save_pretrained`, which needs no network. Where there is no such
                folder, the name of a repository.
            revision: branch, tag or commit of the repository.
            token: for a private repository; None for the one you logged in with.
            cache_dir: folder for downloaded repositories; None for huggingface_hub's default.
            local_files_only: take the repository from the cache or fail.
            backbone: the network to load into, where `save_pretrained` could not know how it was made.
            device: device of the model.

        Raises:
            StoreError: no such folder or repository, or its files are missing, damaged or do not fit.
        """
        folder = Path(folder_or_repo)
        if not folder.is_dir():
            if isinstance(folder_or_repo, Path) or not _REPOSITORY.fullmatch(folder_or_repo):
                raise StoreError(
                    f"no folder {folder_or_repo}: give one written by save_pretrained, or a repository's name"
                )
            options = {"revision": revision, "token": token, "cache_dir": cache_dir}
            folder = _download(folder_or_repo, {**options, "local_files_only": local_files_only})
        return cls.read_files(folder / WEIGHTS, folder / DESCRIPTION, backbone=backbone).to(device)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        classes: list[str] | None = None,
        extra: dict[str, Any] | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str = "LAP model",
    ) -> str:
        """Upload what `save_pretrained` writes and create the repository if needed.

        Args:
            repo_id: "owner/name".
            classes: as for `save_pretrained`.
            extra: as for `save_pretrained`.
            private: whether a new repository is private; None for the account's default.
            token: None for the one you logged in with.
            revision: branch to write to, created if missing; None for the main one.
            commit_message: message of the one commit made.

        Returns:
            Address of the commit.

        Raises:
            StoreError: the hub refuses or cannot be reached.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, classes=classes, extra=extra)
            with _hub_errors(f"cannot upload to {repo_id}", "check the name and that your token may write"):
                api.create_repo(repo_id, private=private, exist_ok=True)
                if revision is not None:
                    api.create_branch(repo_id, branch=revision, exist_ok=True)
                commit = api.upload_folder(
                    repo_id=repo_id, folder_path=folder, revision=revision, commit_message=commit_message
                )
        return str(commit.commit_url)

    def _model_card(self, classes: list[str] | None, extra: dict[str, Any]) -> str:
        spec = self.backbone_spec
        facts = {
            "backbone": spec["name"] if spec else type(self.backbone).__name__,
            "classes": self.info.classes,
            "input channels": self.info.in_channels,
            "LAP options": json.dumps(asdict(self.options)),
            **extra,
        }
        backbone_argument = "" if spec else ", backbone=..."
        return _CARD.format(
            facts="\n".join(f"| {name} | {value} |" for name, value in facts.items()),
            names=f"\nClass names are in `{DESCRIPTION}`.\n" if classes else "",
            load=f'LapModel.from_pretrained("folder or owner/name"{backbone_argument})',
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

An image classifier with local attention pooling attached. One forward pass gives the logits and a map of where they
came from.

| | |
|---|---|
{facts}
{names}
```python
from interp_core import LapModel

lap = {load}
explanation = lap.explain(images)  # .logits (N, K), .map (N, 1, H, W)
```
"""


def _download(repository: str, options: dict[str, Any]) -> Path:
    """Return a local folder with a repository's weights and description."""
    from huggingface_hub import snapshot_download

    advice = "check its name and revision, your token and the network, or give a folder"
    with _hub_errors(f"no folder {repository}, and cannot get it from the hub", advice):
        return Path(snapshot_download(repository, allow_patterns=[WEIGHTS, DESCRIPTION], **options))


@contextmanager
def _hub_errors(problem: str, advice: str) -> Iterator[None]:
    """Convert errors of huggingface_hub to `StoreError`.

    This includes errors of the HTTP client that it uses.
    """
    from huggingface_hub.errors import HfHubHTTPError

    # The bases of this error are the HTTP client's own error, which changed with the client, and OSError.
    client_errors: tuple[type[Exception], ...] = (*HfHubHTTPError.__bases__, OSError, ValueError)
    try:
        yield
    except client_errors as error:
        raise StoreError(f"{problem}: {one_line(error)}; {advice}") from error
