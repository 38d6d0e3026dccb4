"""On a real Ray cluster of two workers, started here; left out where Ray is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.config.errors import ConfigError
from benchmarks.config.run import RunConfig
from benchmarks.run import cluster
from benchmarks.run.engine import Engine, Outcome
from benchmarks.store.run_folder import read_run
from interp_core.errors import InterpError

pytestmark = pytest.mark.slow

KEYS = ["model", "explainer", "metric", "seed", "image_id"]
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")

DEADLY = """
import os
import signal
from pathlib import Path

from baselines import Explainer, explainers


@explainers.register("deadly{times}")
class Deadly(Explainer):
    def explain(self, model, images, targets):
        for number in range({times}):
            try:
                Path("{folder}", "life" + str(number)).touch(exist_ok=False)
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
        return images.abs()
"""


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def scores(folder: Path) -> pd.DataFrame:
    table = read_run(folder).scores
    return table[table["metric"] != "seconds"].sort_values(KEYS, ignore_index=True)


@needs_ray
def test_a_cluster_ends_with_the_same_tables_bit_for_bit(
    ray_cluster: None, done: tuple[RunConfig, Outcome], tiny: Callable[..., RunConfig]
) -> None:
    spread = Engine(tiny(name="spread", engine="ray")).run()
    assert (spread.computed, spread.problems) == (done[1].computed, [])
    pd.testing.assert_frame_equal(scores(spread.folder), scores(done[1].folder), check_exact=True)
    again = Engine(tiny(name="spread", engine="ray")).run()
    assert (again.computed, again.reused) == (0, spread.computed)
    # either engine goes on with what the other has begun
    here = Engine(tiny(name="spread")).run()
    assert (here.computed, here.reused) == (0, spread.computed)


@needs_ray
@pytest.mark.parametrize(("times", "lost"), [(1, False), (9, True)])
def test_cells_of_a_killed_worker_are_tried_again(
    ray_cluster: None, warm: Callable[..., RunConfig], tmp_path: Path, times: int, lost: bool
) -> None:
    plugin = tmp_path / f"deadly{times}.py"
    plugin.write_text(DEADLY.format(folder=tmp_path, times=times))
    config = warm(
        engine="ray", ray={"retries": 1}, plugins=[str(plugin)], explainers=["random"], metrics=["auc"], shard=3
    )
    from baselines import explainers

    try:
        outcome = Engine(config).run()
    finally:
        del explainers._entries[f"deadly{times}"]  # workers of this cluster serve the next case too
    assert bool(outcome.failed) is lost
    table = scores(outcome.folder)
    if lost:
        assert all("lost on the cluster" in problem.what for problem in outcome.problems)
    else:
        assert set(table["explainer"]) == {f"deadly{times}", "random"}
        assert (tmp_path / "life0").exists()


@needs_ray
def test_what_the_user_can_mend_is_told_as_on_one_machine(ray_cluster: None, tiny: Callable[..., RunConfig]) -> None:
    with pytest.raises(InterpError, match="1000"):
        Engine(tiny(engine="ray", recipe={"epochs": 1, "batch_size": 1000})).run()


def test_without_ray_the_engine_is_refused_before_anything_is_written(
    tiny: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    config = tiny(engine="ray")
    with pytest.raises(ConfigError, match=r"pip install 'interp-bench\[ray\]'"):
        Engine(config)
    assert not Path(config.folder).exists()


def test_paths_hold_elsewhere(tiny: Callable[..., RunConfig]) -> None:
    given = tiny(output="runs").model_copy(update={"plugins": ("mine.py", "a.module")})
    config = cluster._with_absolute_paths(given)
    assert Path(config.output).is_absolute()
    assert Path(config.plugins[0]).is_absolute()
    assert config.plugins[1] == "a.module"
    assert cluster._with_absolute_paths(tiny(output="memory://runs")).output == "memory://runs"
