"""The check of a user's explainer: the good one passes, every kind of bad one is told why, none ends in a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from baselines import explainers
from benchmarks.checks.explainer import (
    CHECKS,
    CheckReport,
    CheckResult,
    check_explainer,
    check_file,
    check_plugin,
    small_task,
)

pytestmark = pytest.mark.slow

HEAD = """
from typing import ClassVar
import torch
from torch import Tensor, nn
from baselines import Explainer, explainers

def gradient(model, images, targets):
    leaf = images.detach().requires_grad_()
    return torch.autograd.grad(model(leaf).gather(1, targets[:, None]).sum(), leaf)[0]

@explainers.register("tried")
class Tried(Explainer):
    signed: ClassVar[bool] = {signed}

    def explain(self, model, images, targets):
        {body}
"""


@pytest.fixture(autouse=True)
def clean_registry() -> Iterator[None]:
    """Remove the explainers and modules of plugins after each test."""
    names, modules = set(explainers), set(sys.modules)
    yield
    for name in set(explainers) - names:
        explainers._entries.pop(name)
    for module in set(sys.modules) - modules:
        if module.startswith("interp_bench_plugin_"):
            del sys.modules[module]


@pytest.fixture
def check_body(tmp_path: Path) -> Callable[..., dict[str, CheckResult]]:
    """Check an explainer with the given body; results by check."""

    def check(body: str, signed: bool = True) -> dict[str, CheckResult]:
        path = tmp_path / "tried_plugin.py"
        path.write_text(HEAD.format(body="\n        ".join(body.splitlines()), signed=signed))
        return {result.name.removeprefix("tried: "): result for result in check_file(str(path))}

    return check


def test_a_good_explainer_passes_everything(check_body: Callable[..., dict[str, CheckResult]]) -> None:
    results = check_body("return images * gradient(model, images, targets)")
    assert list(results) == ["loads", "supported", *CHECKS]
    assert [result for result in results.values() if not result.ok] == []
    assert results["loads"].detail == "tried"
    assert results["speed"].detail.endswith("1 forwards, 1 backwards an image")
    assert results["shape"].detail.startswith("(2, 1, 32, 32) float32; (2, 1, 32, 48)")
    assert results["sign"].detail.startswith("signed, ")


@pytest.mark.parametrize(
    ("body", "signed", "what", "why"),
    [
        ("return torch.randn(2, 1, 8, 8, generator=SEEDLESS)[: len(images)]", True, "deterministic", "one seed"),
        ("return images.abs()", False, "class sensitive", "does not use `targets`"),
        ("return torch.full_like(images, float(targets[0]))", True, "not degenerate", "one value everywhere"),
        ("g = gradient(model, images, targets)\nreturn g / g.new_tensor([0.0, 1.0]).view(2, 1, 1, 1)[: len(g)]", True,
         "finite", "1 of 2 maps have NaN or infinite"),
        ("g = gradient(model, images, targets)\nreturn g / g.std()", True, "batch invariant", "beside it changes"),
        ("return gradient(model, images, targets)", False, "sign", "of the values are negative"),
        ("model.seen = 1\nreturn gradient(model, images, targets)", True, "leaves no trace", "network's attributes"),
        ("return gradient(model, images, targets)[..., :7, :]"
         " if images.shape[-1] == 32 else gradient(model, images, targets)[:1]", True, "shape",
         "explain must return a tensor"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(
    check_body: Callable[..., dict[str, CheckResult]], body: str, signed: bool, what: str, why: str
) -> None:
    body = body.replace("SEEDLESS", "(lambda g: (g.seed(), g)[1])(torch.Generator())")
    results = check_body(body, signed)
    assert not results[what].ok
    assert why in results[what].detail


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise KeyError('layer9')", "KeyError: 'layer9'"),
        ("return None", "tried: explain must return a tensor (2, c, h, w), got NoneType"),
        ("with torch.no_grad():\n    next(model.parameters()).add_(1)\nreturn images", "changed parameters or buffers"),
    ],
)
def test_what_cannot_run_gives_its_reason_and_no_more(
    check_body: Callable[..., dict[str, CheckResult]], body: str, why: str
) -> None:
    results = check_body(body)
    assert list(results) == ["loads", "supported", "maps"]
    assert not results["maps"].ok
    assert why in results["maps"].detail
    assert "\n" not in results["maps"].detail


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("def broken(:", "SyntaxError"),
        ("x = 1", "registers no explainer: decorate a class"),
        (
            "from baselines import Explainer, explainers\n@explainers.register('grad_cam')\nclass Mine(Explainer): ...",
            "two explainers want the name 'grad_cam'",
        ),
    ],
)
def test_a_file_that_brings_no_explainer_says_why(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "brings_nothing.py"
    path.write_text(content)
    report = check_plugin(str(path))
    assert not report.ok
    ((name, ok, detail),) = report.lines()
    assert (name, ok) == ("loads", False)
    assert why in detail


def test_a_file_that_is_not_there_says_so() -> None:
    assert "no file" in check_plugin("nowhere/my_explainer.py").lines()[0][2]


def test_an_explainer_without_explain_and_one_with_a_needed_field(tmp_path: Path) -> None:
    path = tmp_path / "two_plugin.py"
    path.write_text(
        "from baselines import Explainer, explainers\n"
        "@explainers.register('empty')\nclass Empty(Explainer): ...\n"
        "@explainers.register('asking')\nclass Asking(Explainer):\n    layer: str\n"
    )
    results = {name: detail for name, ok, detail in check_plugin(str(path)).lines() if not ok}
    assert "Empty must define explain" in results["empty: maps"]
    assert "layer" in results["asking: defaults"]


def test_one_that_needs_lap_is_tried_on_lap() -> None:
    results = check_explainer(explainers["lap"], "cpu")
    assert [result for result in results if not result.ok] == []
    assert results[0].detail == "LapModel"


def test_one_that_takes_no_network_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explainers["saliency"], "refusal", lambda self, model: "only on Sundays")
    (result,) = check_explainer(explainers["saliency"], "cpu")
    assert not result.ok
    assert result.detail == "it refuses the network, with LAP and without: only on Sundays"


def test_one_that_ignores_the_class_is_found_among_our_own() -> None:
    wrong = {result.name for result in check_explainer(explainers["eigen_cam"], "cpu") if not result.ok}
    assert wrong == {"eigen_cam: class sensitive"}


@pytest.mark.parametrize("name", ["grad_cam", "deep_lift", "lrp", "full_grad", "integrated_gradients"])
def test_our_own_pass(name: str) -> None:
    assert [result for result in check_explainer(explainers[name], "cpu") if not result.ok] == []


def test_random_numbers_that_depend_on_the_place_are_told_and_allowed(
    check_body: Callable[..., dict[str, CheckResult]],
) -> None:
    body = "return gradient(model, images, targets) * (1 + torch.rand(len(images), 1, 1, 1))"
    result = check_body(body.replace("torch.rand(", "torch.stack([torch.rand(()) for _ in images]).view("))[
        "batch invariant"
    ]
    assert result.ok
    assert "place in the batch" in result.detail


def test_the_report_is_lines_and_a_verdict() -> None:
    report = CheckReport((CheckResult("a", True, "fine"), CheckResult("b", False, "broken")))
    assert report.lines() == [("a", True, "fine"), ("b", False, "broken")]
    assert not report.ok
    assert CheckReport(report.results[:1]).ok


def test_the_task_is_the_same_every_time_and_leaves_the_generator_alone() -> None:
    before = torch.get_rng_state()
    one, other = small_task("cpu"), small_task("cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.network(one.images), other.network(other.images))
    assert one.images.shape == (2, 3, 32, 32)
    assert bool(one.masks.any())


def test_an_installed_distribution_brings_explainers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake_explainers.py").write_text(
        HEAD.format(body="return gradient(model, images, targets)", signed=True).replace('"tried"', '"from_elsewhere"')
    )
    info = tmp_path / "fake_explainers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-explainers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[interp_bench.explainers]\nfake = fake_explainers\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    # As at the first look-up of a fresh process.
    monkeypatch.setattr(explainers, "_group", "interp_bench.explainers")
    assert "from_elsewhere" in explainers
    assert check_plugin("fake_explainers").ok
    monkeypatch.delitem(sys.modules, "fake_explainers")
