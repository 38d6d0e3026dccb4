"""The command `diagnose`: files, tables, exit codes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from helpers.command import exit_code
from helpers.diagnoses import diagnosis, finding
from helpers.layouts import class_folders
from safetensors.torch import save_file

from benchmarks.diagnosis import suite
from benchmarks.diagnosis.finding import Diagnosis, Severity, Verdict
from benchmarks.diagnosis.output.findings_file import read_findings, write_findings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def _files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of two classes, and twenty images."""
    folder = tmp_path_factory.mktemp("diagnose")
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=2).state_dict(), folder / "net.safetensors")
    class_folders(folder / "data", count=10)
    return folder


@pytest.fixture
def folder(_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(_files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


WORDS = [
    "diagnose", "test_resnet", "--weights", "net.safetensors", "--data", "data", "--split", "all", "--device", "cpu",
    "--mean", "0.5", "--std", "0.5,0.5,0.5", "--set", "image_size=32", "--set", "workers=0", "--output", "out",
]  # fmt: skip


@pytest.fixture
def result(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace the suite by one that returns a diagnosis at once; what it was called with."""
    calls: dict[str, Any] = {"fields": {}}

    def diagnose(subject: Any, images: Any, folder: Path, **options: Any) -> Diagnosis:
        calls.update(options, images=images)
        return diagnosis(folder, **calls["fields"])

    monkeypatch.setattr(suite, "diagnose", diagnose)
    return calls


def test_a_diagnosis_writes_its_files(folder: Path, wide: None, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "data" / "cat" / "cat0.png").write_bytes(b"words")
    (folder / "facts.csv").write_text("file,age\ncat1.png,3\ndog2.png,5\nhorse.png,7\n")
    words = [*WORDS, "--checks", "places", "--metadata", "facts.csv", "--other-split", "train", "--junit", "j.xml"]
    assert exit_code(*words) == 0
    captured = capsys.readouterr()
    assert "unreadable folder/cat/cat0.png: it is not an image of a known format" in captured.err
    assert "1 rows fit no image of the split, 18 images have no row" in captured.err
    assert all(name in captured.out for name in ("out/findings.json", "out/index.html", "j.xml"))
    assert "images explained" in captured.err
    assert (folder / "j.xml").is_file()
    found = read_findings(folder / "out")
    assert (found.data["images"], found.data["split"]) == (19, "all")
    assert [check.name for check in found.checks] == ["places"]
    assert found.network["name"] == "test_resnet"
    assert (folder / "out" / "index.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("names", [(), ("calm", "wild")])
def test_a_folder_without_labels_is_diagnosed(
    names: tuple[str, ...], folder: Path, wide: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in sorted((folder / "data").rglob("*.png")):
        path.rename(folder / "data" / path.name)
    (folder / "data" / "cat").rmdir()
    (folder / "data" / "dog").rmdir()
    (folder / "data" / "cat0.png").write_bytes(b"words")
    (folder / "names.txt").write_text("\n".join(names))
    words = ["--classes", "names.txt"] if names else []
    assert exit_code(*WORDS, *words) == 0
    assert "no labels" in capsys.readouterr().err
    result = read_findings(folder / "out")
    assert result.accuracy is None
    assert result.classes == (names or ("class 0", "class 1"))
    assert (result.data["images"], list(result.unreadable)) == (19, ["folder/cat0.png"])
    lacking = {check.name for check in result.checks if check.status == "NOT RUN" and "no labels" in check.sentence}
    assert lacking == {"labels", "metadata", "overlap"}


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("one class", "2 classes apart, the data have 1"),
        ("unreadable", "none of the 20 images can be read"),
        ("no files", "data has none of"),
        ("named", "leave --classes out"),
        ("other split", "leave --other-split out"),
    ],
)
def test_poor_folders_get_a_clear_word(
    case: str, expected: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, words = sorted((folder / "data").rglob("*.png")), []
    if case == "one class":
        shutil.rmtree(folder / "data" / "dog")
    if case == "unreadable":
        for path in images:
            path.write_bytes(b"words")
    if case == "no files":
        for path in images:
            path.unlink()
    if case == "named":
        (folder / "names.txt").write_text("calm\nwild")
        words = ["--classes", "names.txt"]
    if case == "other split":
        for path in images:
            path.rename(folder / "data" / path.name)
        words = ["--other-split", "train"]
    assert exit_code(*WORDS, *words) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert expected in error


def test_options_reach_the_suite(folder: Path, result: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "facts.csv").write_text("file,age\ncat1.png,3\ndog2.png,5\n")
    words = ["--checks", " places, patches", "--seed", "3", "--metadata", "facts.csv", "--other-split", "val"]
    assert exit_code(*WORDS, *words, "--limit", "8") == 0
    assert (result["names"], result["seed"], len(result["images"])) == (["places", "patches"], 3, 8)
    assert {"age", "file:width"} <= result["metadata"].keys()
    assert len(result["others"]["val"][0]) == 2
    assert result["network"]["std"] == [0.5] * 3


def test_tables_name_findings_and_checks(
    folder: Path, wide: None, result: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*WORDS) == 0
    out = capsys.readouterr().out
    texts = [item.title for item in diagnosis().findings] + [check.sentence for check in diagnosis().checks]
    assert all(text in out for text in texts)


@pytest.mark.parametrize(
    ("words", "fields", "code"),
    [
        ([], {}, 0),
        (["--fail-on", "fail"], {}, 1),
        (["--fail-on", "warn"], {}, 1),
        (["--fail-on", "fail"], {"findings": (), "checks": diagnosis().checks[1:]}, 0),
        (["--fail-on", "warn"], {"findings": (), "checks": diagnosis().checks[1:]}, 1),
        (["--fail-on", "warn"], {"findings": (), "checks": diagnosis().checks[2:]}, 0),
        (["--baseline", "old"], {}, 0),
        (["--baseline", "old", "--fail-on-new"], {}, 0),
        (["--baseline", "old", "--fail-on", "fail"], {}, 1),
    ],
)
def test_gate(words: list[str], fields: dict[str, Any], code: int, folder: Path, result: dict[str, Any]) -> None:
    write_findings(folder / "old", diagnosis())
    result["fields"] = fields
    assert exit_code(*WORDS, *words) == code
    assert (folder / "out" / "findings.json").is_file()


@pytest.mark.parametrize(("severity", "code"), [(Severity.high, 1), (Severity.medium, 1), (Severity.low, 0)])
def test_a_new_cause_fails(
    severity: Severity, code: int, folder: Path, result: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    write_findings(folder / "out", diagnosis())
    new = finding(1, key="new", title="A new tag", verdict=Verdict.cause, severity=severity)
    result["fields"] = {"findings": (new, *diagnosis().findings[1:])}
    assert exit_code(*WORDS, "--baseline", "out/findings.json", "--fail-on-new") == code
    captured = capsys.readouterr()
    assert "1 new, 1 gone, 0 with another verdict" in captured.out
    assert ("A new tag" in captured.err) is bool(code)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--checks", "placs"], "did you mean places"),
        (["--fail-on-new"], "--baseline"),
        (["--baseline", "nowhere.json"], "no file nowhere.json"),
        (["--fail-on", "always"], "always"),
        (["--mean", "high"], "--mean"),
        (["--data", "nowhere"], "nowhere"),
        (["--root", "data"], "leave --root out"),
        (["--weights", "nowhere.pt"], "nowhere.pt"),
        (["--metadata", "nowhere.csv"], "nowhere.csv"),
        (["--explainer", "lapp"], "did you mean lap"),
        (["--split", "best"], "best"),
        (["--plugin", "nowhere.py"], "nowhere.py"),
        (["--model-set", "num_classes=3"], "3 classes"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_what_the_user_can_mend_is_told_in_one_line(
    words: list[str], expected: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--model-set" in words:
        save_file(timm.create_model("test_resnet", num_classes=3).state_dict(), "net.safetensors")
    assert exit_code(*WORDS, *words) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    assert expected in error
    assert not (folder / "out").exists()
