"""Edit a copy of the packages and look at which keys change."""

from __future__ import annotations

import ast
import re
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.shared import ROOT

from baselines import Explainer
from benchmarks.config.plugins import load_plugin
from benchmarks.config.run import RunConfig
from benchmarks.plan import cells, code_digest
from benchmarks.plan.cells import explain_cells, score_cells, train_cells
from benchmarks.plan.code_digest import PACKAGES, WITHOUT_NUMBERS, class_digest, dependencies, module_digest
from benchmarks.plan.components import RunComponents

pytestmark = pytest.mark.slow

Keys = dict[tuple[Any, ...], str]
NET = {"backbone": "test_resnet"}
MODELS = [
    {**NET, "name": "plain"},
    {**NET, "name": "lap", "lap": True},
    {**NET, "name": "cam", "rival": "cam"},
    {**NET, "name": "gain", "rival": "gain"},
    {**NET, "name": "regions", "rival": "cam", "stages": [{"regions": {"object": {}}}]},
]


def clear_caches() -> None:
    for name in ("dependencies", "module_digest", "_imports", "_definition", "_source"):
        getattr(code_digest, name).cache_clear()


parse = cache(ast.parse)


@pytest.fixture(autouse=True)
def parse_by_content(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse each content once for all tests of this module: files change here, and most stay the same."""
    monkeypatch.setattr(code_digest, "_parse", lambda path: parse(path.read_bytes()))


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A copy of the packages that keys are made from."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_digest, "ROOT", tmp_path)
    clear_caches()
    yield tmp_path
    clear_caches()


def keys(config: RunConfig) -> Keys:
    """All keys of a run as (kind, model, explainer, metric)."""
    clear_caches()
    components = RunComponents(config)
    trained = train_cells(config, components)
    table: Keys = {("train", cell.model.name, "", ""): cell.key for cell in trained}
    for cell in explain_cells(config, components, trained, ["image-0"]):
        table["explain", cell.train.model.name, cell.explainer, ""] = cell.key
        for score in score_cells(components, cell):
            table["score", cell.train.model.name, cell.explainer, score.metric] = score.key
    return table


@pytest.fixture
def changes(tree: Path, tiny: Callable[..., RunConfig]) -> Callable[..., set[tuple[Any, ...]]]:
    """Keys that change when text is added to a file of the copy, or replaced in it."""

    def edit(path: str, text: str = "\nADDED = 1\n", *, old: str | None = None) -> set[tuple[Any, ...]]:
        config = tiny(models=MODELS, explainers=["lap", "grad_cam", "lime"], terms=["area"])
        before, file = keys(config), tree / path
        content = file.read_text() if file.exists() else ""
        file.write_text(content + text if old is None else content.replace(old, text))
        assert file.read_text() != content
        after = keys(config)
        assert before.keys() == after.keys()
        return {place for place in before if before[place] != after[place]}

    return edit


def test_comments_docstrings_and_blank_lines_change_no_key(tree: Path, tiny: Callable[..., RunConfig]) -> None:
    config = tiny(models=MODELS, explainers=["lap", "grad_cam"])
    before = keys(config)
    for path in tree.rglob("*.py"):
        text = re.sub(r'^( +""")(?=\w)', r"\1Another first line. ", path.read_text(), flags=re.MULTILINE)
        path.write_text(f"{text}\n\n# another comment\n")
    assert keys(config) == before


def test_formatting_changes_no_key_and_code_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "some_module_of_mine.py"
    monkeypatch.syspath_prepend(str(tmp_path))

    def digest(text: str) -> str:
        module.write_text(text)
        clear_caches()
        return module_digest(module.stem)

    plain = digest("def f(a, b):\n    return g(a, b=[1, None])\n")
    assert plain == digest('def f(a,b):\n    "Do it."\n    return g(\n        a,\n        b=[1, None],  # why\n    )\n')
    others = ["g(a, b=[1])", "g(a, [1, None])", "g(b, b=[1, None])", "g(a, b=['1', None])", "g(a, b=[1, None])()"]
    assert len({plain, *(digest(f"def f(a, b):\n    return {other}\n") for other in others)}) == 1 + len(others)


def test_the_pooling_touches_every_lap_network_and_no_other(changes: Any) -> None:
    touched = changes("interp_core/lap/pooling.py")
    assert {model for _, model, *_ in touched} == {"lap"}
    assert {kind for kind, *_ in touched} == {"train", "explain", "score"}
    assert ("score", "lap", "grad_cam", "auc") in touched


@pytest.mark.parametrize("path", ["training/loop.py", "training/losses.py", "datasets/synthetic/scenes.py"])
def test_training_and_the_data_touch_every_network(path: str, changes: Any) -> None:
    touched = changes(f"interp_core/{path}")
    assert {model for kind, model, *_ in touched if kind == "train"} == {str(model["name"]) for model in MODELS}


@pytest.mark.parametrize(
    ("path", "networks"),
    [
        ("interp_core/knowledge/concept_maps.py", {"lap"}),  # where the term of this run is
        ("interp_core/knowledge/order.py", set()),
        ("benchmarks/rivals/gain.py", {"gain"}),
        ("benchmarks/rivals/grad_cam.py", {"gain"}),
        ("benchmarks/run/region_masks.py", {"regions"}),
        ("benchmarks/run/staged_training.py", {"plain", "lap", "cam", "gain", "regions"}),
    ],
)
def test_terms_rivals_and_regions_touch_those_that_use_them(path: str, networks: set[str], changes: Any) -> None:
    assert {model for kind, model, *_ in changes(path) if kind == "train"} == networks


def test_an_explainer_touches_its_cells_alone(changes: Any) -> None:
    touched = changes("baselines/grad_cam.py")
    assert {explainer for _, _, explainer, _ in touched} == {"grad_cam"}
    assert "train" not in {kind for kind, *_ in touched}


def test_a_metric_touches_its_cells_alone(changes: Any) -> None:
    touched = changes("benchmarks/metrics/flipping.py")
    assert {(kind, metric) for kind, _, _, metric in touched} == {("score", "pixel_flipping")}


def test_shared_code_touches_all_who_import_it(changes: Any) -> None:
    touched = changes("baselines/support/cam.py")
    assert {explainer for kind, _, explainer, _ in touched if kind == "explain"} == {"grad_cam"}


@pytest.mark.parametrize(
    "path",
    [
        "baselines/of_mine.py",
        "benchmarks/metrics/of_mine.py",
        "interp_core/knowledge/of_mine.py",
        "interp_core/datasets/of_mine.py",
        "benchmarks/rivals/of_mine.py",
        "interp_core/datasets/folder.py",
        "interp_core/pictures/overlay.py",
        "interp_core/lap/hub.py",
        "benchmarks/report/page.py",
        "benchmarks/cli/app.py",
    ],
)
def test_what_the_run_does_not_use_touches_nothing(path: str, changes: Any) -> None:
    assert changes(path) == set()


def test_importing_from_a_package_depends_on_the_module_that_defines_the_name() -> None:
    modules = dependencies(("baselines.grad_cam",))
    assert {"baselines.grad_cam", "baselines.base", "baselines.support.guard"} <= modules
    assert not modules & {"baselines", "baselines.lime", "interp_core"}


def test_left_out_modules_are_not_followed() -> None:
    assert any(name.startswith("interp_core.lap") for name in dependencies(("baselines.lap",)))
    assert not any(
        name.startswith("interp_core.lap") for name in dependencies(("baselines.lap",), ("interp_core.lap",))
    )


def test_a_plugin_depends_on_itself_and_on_what_it_imports(tmp_path: Path) -> None:
    path = tmp_path / "of_mine.py"
    path.write_text("from baselines import Explainer, explainers\n")
    name = load_plugin(str(path)).__name__
    clear_caches()
    assert {name, "baselines.base"} <= dependencies((name,))
    assert "baselines.lime" not in dependencies((name,))


def test_a_package_of_explainers_is_followed_within_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "their_explainers"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "method.py").write_text("from . import shared\nfrom .deep import f\nimport numpy\n")
    (package / "shared.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n")
    (package / "deep.py").write_text("def f(): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    expected = {"their_explainers.method", "their_explainers.shared", "their_explainers.deep"}
    assert dependencies(("their_explainers.method",)) == expected


def test_a_class_without_a_file_is_known_by_its_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = "typed_into_a_notebook"
    monkeypatch.setitem(sys.modules, notebook, ModuleType(notebook))

    def digest(expression: str) -> str:
        names: dict[str, Any] = {"__name__": notebook, "Explainer": Explainer}
        method = f"    def explain(self, model, images, targets):\n        return {expression}"
        exec(f"class Mine(Explainer):\n{method}", names)
        return class_digest(names["Mine"])

    assert digest("images * 2") == digest("images * 2") != digest("images * 3")


@pytest.mark.parametrize("name", [cells.TRAINING, *cells.LAP, *cells.BUILDING, "benchmarks.run.region_masks"])
def test_every_module_that_keys_name_exists(name: str) -> None:
    assert (ROOT / f"{name.replace('.', '/')}.py").is_file()
    module_digest(name)


@pytest.mark.parametrize("name", WITHOUT_NUMBERS)
def test_every_module_that_keys_leave_out_exists(name: str) -> None:
    stem = ROOT / name.replace(".", "/")
    assert stem.with_suffix(".py").is_file() or (stem / "__init__.py").is_file()


def test_an_unknown_module_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="no module benchmarks\\.run\\.nothing"):
        module_digest("benchmarks.run.nothing")
