"""The commands `amend` and `verify`: a toy network is repaired from its files, and judged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.command import exit_code
from helpers.shortcut_task import (
    CLASSES,
    REGION,
    SIDE,
    STATISTICS,
    ShapeNet,
    corner_finding,
    shape_images,
    shortcut_case,
)
from PIL import Image
from safetensors.torch import save_file

from benchmarks.diagnosis.finding import Diagnosis
from benchmarks.diagnosis.opening.choices import SplitChoice
from benchmarks.diagnosis.opening.data import DataOptions, describe_data, open_dataset
from benchmarks.diagnosis.opening.network import NetworkOptions, describe_network, open_subject
from benchmarks.diagnosis.output.findings_file import write_findings
from benchmarks.diagnosis.region import save_regions
from benchmarks.diagnosis.verifying.verification import Verification
from interp_core.datasets import ImageSet

pytestmark = pytest.mark.slow

CODE = """
import sys

sys.path.insert(0, {path!r})
from helpers.shortcut_task import ShapeNet


def make():
    return ShapeNet()
"""


def write_images(folder: Path, images: ImageSet) -> None:
    for pixels, target, name in zip(images.images, images.targets, images.ids, strict=True):
        path = folder / CLASSES[target] / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(path)


@pytest.fixture(scope="module")
def _files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in folders, a plugin with the network, its weights, and a diagnosis written by hand."""
    folder = tmp_path_factory.mktemp("amend")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for split, agreement, count in (("train", 0.95, 300), ("val", 0.95, 60), ("test", 0.5, 120)):
            write_images(Path("data") / split, shape_images(count, agreement, len(split) + count))
        Path("net.py").write_text(CODE.format(path=str(Path(__file__).parents[2])))
        save_file(shortcut_case()[0].lap.backbone.state_dict(), "net.safetensors")
        save_file(ShapeNet().state_dict(), "other.safetensors")
        network = NetworkOptions(
            "net.py:make", Path("net.safetensors"), plugins=("net.py",), mean=STATISTICS[0], std=STATISTICS[1],
            device="cpu",
        )  # fmt: skip
        options = DataOptions("data", None, (f"image_size={SIDE}", "workers=0"), SplitChoice.val)
        dataset = open_dataset(options)
        subject = open_subject(network, dataset.classes, image_size=SIDE)
        findings = (
            corner_finding(verdict="cause"),
            corner_finding(number=2, key="other", region=None, property="brightness"),
        )
        write_findings(
            folder / "out",
            Diagnosis(
                network=describe_network(network, subject), data=describe_data(options, dataset), classes=CLASSES,
                explainer="lap", findings=findings,
            ),
        )  # fmt: skip
        save_regions(folder / "out", {"corner": REGION})
    return folder


@pytest.fixture
def folder(_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(_files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMON = ["--plugin", "net.py", "--device", "cpu"]
AMEND = ["amend", "out/findings.json", "--finding", "1", *COMMON]
VERIFY = ["verify", "out/findings.json", "amended", "--no-checks", *COMMON]


def test_a_network_is_repaired_and_judged(folder: Path, wide: None, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "net.safetensors").read_bytes()
    assert exit_code(*AMEND, "--repair", "exchange", "--repair-set", "learning_rate=0.003", "--epochs", "4") == 0
    assert "amended/network.safetensors" in capsys.readouterr().out
    facts = json.loads((folder / "amended" / "amend.json").read_text())
    assert facts["repair"]["epochs"] == 4
    assert facts["facts"]["training images"] + facts["facts"]["validation images"] == 300
    assert (folder / "net.safetensors").read_bytes() == before
    rows = [
        f"test/{path.parent.name}/{path.name},{int(path.stem[-1]) % 2}" for path in Path("data/test").rglob("*.png")
    ]
    (folder / "groups.csv").write_text("\n".join(["file,digit", *rows]) + "\n")
    assert exit_code(*VERIFY, "--groups", "digit", "--metadata", "groups.csv") in (0, 1)
    verification = Verification.model_validate_json((folder / "verified" / "verify.json").read_text())
    assert verification.data["split"] == "test"
    by_name = {row.name: row for row in verification.rows}
    assert by_name["accuracy"].after > by_name["accuracy"].before + 0.2
    assert any(row.kind == "group" for row in verification.rows)
    assert "swap: cross, probability" in capsys.readouterr().out


def test_a_network_that_stays_is_not_repaired(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = ["verify", "net.py:make", "net.safetensors", "--findings", "out/findings.json", *VERIFY[3:]]
    assert exit_code(*named) == 1
    words = [*VERIFY[:2], "net.safetensors", *VERIFY[3:]]
    words.remove("--no-checks")
    assert exit_code(*words, "--limit", "40") == 1


def test_a_configuration_of_the_page(folder: Path) -> None:
    choice = {"finding": 1, "key": corner_finding().key, "terms": [{"name": "forbid", "weight": 2.0}]}
    (folder / "amend.json").write_text(json.dumps({"findings": "out/findings.json", "amend": [choice]}))
    assert exit_code("amend", "--config", "amend.json", "--epochs", "1", "--limit", "64", *COMMON) == 0
    facts = json.loads((folder / "amended" / "amend.json").read_text())
    assert (facts["repair"]["name"], facts["repair"]["weight"]) == ("forbid", 2.0)


def test_findings_are_repaired_in_turn(folder: Path) -> None:
    assert exit_code(*AMEND, "--finding", "2", "--epochs", "1", "--limit", "64") == 0
    facts = json.loads((folder / "amended" / "amend.json").read_text())
    assert facts["repair"]["name"] == "augment"
    assert [step["finding"]["number"] for step in facts["earlier"]] == [1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["amend", *COMMON], "say what to repair"),
        (["amend", "out/findings.json", "--finding", "7", *COMMON], "no finding 7"),
        (["amend", "nowhere", "--finding", "1", *COMMON], "nowhere"),
        (["amend", "out/findings.json", "--config", "x.json", *COMMON], "leave FINDINGS"),
        ([*AMEND, "--repair", "exchang"], "did you mean exchange"),
        ([*AMEND, "--repair", "exchange", "--repair-set", "rate=1"], "rate"),
        ([*AMEND, "--repair", "augment"], "cannot be used here"),
        ([*AMEND, "--boxes", "3"], "no training image has a box"),
        ([*AMEND, "--data", "out"], "out"),
        (["amend", "out/findings.json", "--finding", "1", "--device", "cpu"], "--plugin"),
        ([*AMEND, "--weights", "other.safetensors"], "weights that were diagnosed"),
        (VERIFY, "amended is no network"),
        ([*VERIFY, "--finding", "9"], "no finding 9"),
        ([*VERIFY[:2], "net.safetensors", *VERIFY[3:], "--groups", "site"], "--metadata"),
    ],
)
def test_what_the_user_can_mend_is_told_in_one_line(
    words: list[str], expected: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*words) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    assert expected in error
