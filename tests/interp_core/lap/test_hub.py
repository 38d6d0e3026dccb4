"""A folder holds the whole model without a pickle, needs no network, and is what goes to and comes from the hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from torch import Tensor

import interp_core
from interp_core import LapModel
from interp_core.errors import StoreError


@pytest.fixture
def lap(sharpen: Callable[..., LapModel]) -> LapModel:
    torch.manual_seed(0)
    return sharpen(interp_core.create("test_resnet", num_classes=4, zero_init_last=False)).eval()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was not replaced by a test fails at once."""

    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


def same(first: LapModel, second: LapModel, images: Tensor) -> bool:
    ours, theirs = first.explain(images, 1), second.explain(images, 1)
    return torch.equal(ours.logits, theirs.logits) and torch.equal(ours.map, theirs.map)


@pytest.mark.slow
def test_a_folder_holds_the_model(lap: LapModel, images: Tensor, tmp_path: Path) -> None:
    folder = lap.save_pretrained(tmp_path / "new" / "model", classes=list("abcd"), extra={"accuracy": 0.5})
    assert folder == tmp_path / "new" / "model"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert (config["classes"], config["extra"]) == (list("abcd"), {"accuracy": 0.5})
    loaded = LapModel.from_pretrained(str(folder), device=torch.device("cpu"))
    assert same(lap, loaded, images)
    assert loaded.backbone_spec == lap.backbone_spec
    assert not loaded.training


def test_the_files_are_those_of_save(lap: LapModel, tmp_path: Path) -> None:
    lap.save_pretrained(tmp_path / "folder", classes=list("abcd"))
    interp_core.save(lap, tmp_path / "model", classes=list("abcd"))
    for ours, theirs in (("config.json", "model.json"), ("model.safetensors", "model.safetensors")):
        assert (tmp_path / "folder" / ours).read_bytes() == (tmp_path / theirs).read_bytes()


def test_the_card_tells_how_to_load_and_is_not_overwritten(lap: LapModel, tmp_path: Path) -> None:
    lap.save_pretrained(tmp_path, classes=list("abcd"), extra={"accuracy": 0.5})
    card = (tmp_path / "README.md").read_text()
    assert "| backbone | test_resnet |" in card
    assert "| accuracy | 0.5 |" in card
    assert "LapModel.from_pretrained(" in card
    assert "backbone=" not in card
    metadata: Any = huggingface_hub.ModelCard(card).data
    assert (metadata.library_name, metadata.pipeline_tag) == ("interp_core", "image-classification")
    (tmp_path / "README.md").write_text("mine")
    lap.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.slow
def test_a_backbone_of_ones_own_must_be_given(
    make_lap: Callable[..., LapModel], make_backbone: Callable[..., Any], images: Tensor, tmp_path: Path
) -> None:
    lap = make_lap().eval()
    lap.save_pretrained(tmp_path)
    assert "backbone=..." in (tmp_path / "README.md").read_text()
    with pytest.raises(StoreError, match="backbone="):
        LapModel.from_pretrained(tmp_path)
    assert same(lap, LapModel.from_pretrained(tmp_path, backbone=make_backbone()), images)


def test_where_the_first_weights_came_from_is_not_wanted_again(lap: LapModel, images: Tensor, tmp_path: Path) -> None:
    assert lap.backbone_spec is not None
    lap.backbone_spec["kwargs"] |= {"pretrained": True, "checkpoint_path": "/gone/weights.pth", "cache_dir": "/gone"}
    lap.save_pretrained(tmp_path)
    assert same(lap, LapModel.from_pretrained(tmp_path), images)


@pytest.mark.slow
def test_a_repository_is_fetched_and_loaded(
    lap: LapModel, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request: dict[str, Any] = {}

    def download(repo_id: str, **kwargs: Any) -> str:
        request.update(kwargs, repo_id=repo_id)
        return str(lap.save_pretrained(tmp_path / "snapshot"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    loaded = LapModel.from_pretrained(
        "owner/name", revision="v1", token="secret", cache_dir=tmp_path, local_files_only=True
    )
    assert same(lap, loaded, images)
    assert request == {
        "repo_id": "owner/name",
        "revision": "v1",
        "token": "secret",
        "cache_dir": tmp_path,
        "local_files_only": True,
        "allow_patterns": ["model.safetensors", "config.json"],
    }


@pytest.mark.slow
def test_a_folder_goes_before_a_repository_of_that_name(
    lap: LapModel, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lap.save_pretrained("owner/name")
    assert same(lap, LapModel.from_pretrained("owner/name"), images)


class Hub:
    """What `push_to_hub` asks of the hub, with folders in its place."""

    def __init__(self, root: Path) -> None:
        self.root, self.calls = root, []  # type: ignore[var-annotated]

    def __call__(self, token: str | None = None) -> Hub:
        self.calls.append(("token", token))
        return self

    def create_repo(self, repo_id: str, **kwargs: Any) -> None:
        self.calls.append(("create_repo", repo_id, kwargs))

    def create_branch(self, repo_id: str, **kwargs: Any) -> None:
        self.calls.append(("create_branch", repo_id, kwargs))

    def upload_folder(self, *, repo_id: str, folder_path: str, **kwargs: Any) -> SimpleNamespace:
        self.calls.append(("upload_folder", repo_id, kwargs))
        shutil.copytree(folder_path, self.root / repo_id)
        return SimpleNamespace(commit_url="address of the commit")


def test_what_is_pushed_can_be_loaded(
    lap: LapModel, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Hub(tmp_path)
    monkeypatch.setattr(huggingface_hub, "HfApi", api)
    address = lap.push_to_hub("owner/name", private=True, token="secret", revision="v1", classes=list("abcd"))
    assert address == "address of the commit"
    assert api.calls == [
        ("token", "secret"),
        ("create_repo", "owner/name", {"private": True, "exist_ok": True}),
        ("create_branch", "owner/name", {"branch": "v1", "exist_ok": True}),
        ("upload_folder", "owner/name", {"revision": "v1", "commit_message": "LAP model"}),
    ]
    assert sorted(path.name for path in (tmp_path / "owner" / "name").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert same(lap, LapModel.from_pretrained(tmp_path / "owner" / "name"), images)


def test_the_main_branch_is_not_made(lap: LapModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = Hub(tmp_path)
    monkeypatch.setattr(huggingface_hub, "HfApi", api)
    lap.push_to_hub("owner/name")
    assert "create_branch" not in [call[0] for call in api.calls]


FAILURES = [
    errors.LocalEntryNotFoundError("no internet\nand no cache"),
    errors.OfflineModeIsEnabled("offline"),
    errors.HFValidationError("bad name"),
    errors.HfHubHTTPError.__bases__[0]("no route to host"),
    OSError("disk full"),
]


@pytest.mark.slow
@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_failures_of_the_hub_are_told(
    error: Exception, lap: LapModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(StoreError, match=r"cannot get it from the hub: .*; check its name") as caught:
        LapModel.from_pretrained("owner/name")
    assert "\n" not in str(caught.value)
    api = Hub(tmp_path)
    monkeypatch.setattr(api, "upload_folder", fail)
    monkeypatch.setattr(huggingface_hub, "HfApi", api)
    with pytest.raises(StoreError, match=r"cannot upload to owner/name: .*token may write"):
        lap.push_to_hub("owner/name")


def test_a_repository_that_is_not_in_the_cache_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot get it from the hub"):
        LapModel.from_pretrained("owner/name", cache_dir=tmp_path, local_files_only=True)


@pytest.mark.parametrize("path", ["/no/such/folder", "./folder", "a/b/c", "folder/", "", Path("folder")])
def test_what_can_only_be_a_folder_is_not_looked_for_on_the_hub(
    path: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"no folder|cannot read"):
        LapModel.from_pretrained(path)


@pytest.mark.slow
def test_damaged_folders_are_told(lap: LapModel, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot read .*config\.json"):
        LapModel.from_pretrained(tmp_path)
    lap.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(StoreError, match=r"cannot load .*model\.safetensors"):
        LapModel.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"architecture": "resnet50"}')
    with pytest.raises(StoreError, match=r"config\.json is not a LAP model"):
        LapModel.from_pretrained(tmp_path)


def test_what_cannot_be_written_is_told_and_not_pushed(
    lap: LapModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match="use plain values"):
        lap.save_pretrained(tmp_path / "model", extra={"model": lap})
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        lap.save_pretrained(tmp_path / "file")
    api = Hub(tmp_path)
    monkeypatch.setattr(huggingface_hub, "HfApi", api)
    with pytest.raises(StoreError, match="use plain values"):
        lap.push_to_hub("owner/name", extra={"model": lap})
    assert [call[0] for call in api.calls] == ["token"]
