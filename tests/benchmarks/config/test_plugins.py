from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.config.run import RunConfig
from benchmarks.plan.components import RunComponents
from interp_core.errors import InterpError

PLUGIN = """
from typing import ClassVar

from baselines import Explainer, explainers


@explainers.register("{name}")
class Mine(Explainer):
    title: ClassVar[str] = "Mine"

    def explain(self, model, images, targets):
        return images.abs()
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN.format(name="mine"))
    return path


def test_what_a_plugin_registers_joins_the_run(tiny: Callable[..., RunConfig], plugin: Path) -> None:
    config = tiny(plugins=[str(plugin)])
    assert list(RunComponents(config).explainers) == ["lap", "grad_cam", "random", "mine"]
    assert list(RunComponents(config).explainers) == ["lap", "grad_cam", "random", "mine"]


def test_plugins_that_cannot_be_imported(tiny: Callable[..., RunConfig], tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_this_name")
    for name, reason in [
        (str(broken), "nothing_of_this_name"),
        ("no_such_file.py", "no file"),
        ("no.module", "No module"),
    ]:
        with pytest.raises(InterpError, match=reason):
            RunComponents(tiny(plugins=[name]))
