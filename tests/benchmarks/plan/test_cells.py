from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from baselines import Explainer
from benchmarks.config.run import RunConfig
from benchmarks.metrics.map_transforms import MapTransform
from benchmarks.plan import cells as plan
from benchmarks.plan.cells import explain_cells, score_cells, train_cells
from benchmarks.plan.components import RunComponents
from interp_core.training import DEFAULT_TERMS

IDS = [f"image-{i}" for i in range(5)]
Keys = dict[tuple, str]


def keys(config: RunConfig, ids: list[str] = IDS) -> Keys:
    components = RunComponents(config)
    networks = train_cells(config, components)
    cell_keys: Keys = {("train", cell.model.name, cell.seed): cell.key for cell in networks}
    for cell in explain_cells(config, components, networks, ids):
        path = (cell.train.model.name, cell.train.seed, cell.explainer, cell.start)
        cell_keys[("explain", *path)] = cell.key
        cell_keys |= {("score", *path, score.metric): score.key for score in score_cells(components, cell)}
    return cell_keys


def differences(before: Keys, after: Keys) -> set[tuple]:
    assert before.keys() == after.keys()
    return {path for path in before if before[path] != after[path]}


def test_shards_cover_every_image_once(tiny: Callable[..., RunConfig]) -> None:
    config = tiny()
    components = RunComponents(config)
    (plain, _) = train_cells(config, components)
    spans = [(c.start, c.stop) for c in explain_cells(config, components, [plain], IDS) if c.explainer == "random"]
    assert spans == [(0, 2), (2, 4), (4, 5)]


def test_keys_are_distinct_and_the_same_every_time(tiny: Callable[..., RunConfig]) -> None:
    first, second = keys(tiny(seeds=[0, 1])), keys(tiny(seeds=[0, 1]))
    assert first == second
    assert len(set(first.values())) == len(first) == 4 + 4 * 3 * 3 * (1 + 2)


def test_a_metric_parameter_touches_that_metric_alone(tiny: Callable[..., RunConfig]) -> None:
    other = keys(tiny(metrics=["auc", {"name": "pixel_flipping", "steps": 5}]))
    assert {path[-1] for path in differences(keys(tiny()), other)} == {"pixel_flipping"}


def test_an_explainer_parameter_touches_that_explainer_alone(tiny: Callable[..., RunConfig]) -> None:
    def with_steps(steps: int) -> Keys:
        return keys(tiny(explainers=["grad_cam", {"name": "integrated_gradients", "steps": steps}]))

    assert {path[3] for path in differences(with_steps(3), with_steps(4))} == {"integrated_gradients"}


def test_the_recipe_touches_everything_and_knowledge_the_lap_model_alone(tiny: Callable[..., RunConfig]) -> None:
    before = keys(tiny())
    assert differences(before, keys(tiny(recipe={"epochs": 2, "batch_size": 16}))) == set(before)
    assert {path[1] for path in differences(before, keys(tiny(terms=["area"])))} == {"lap"}


BEFORE = ("name", "backbone", "kwargs", "lap", "attach", "checkpoint", "normalise")
TWO: list[dict[str, Any]] = [{}, {"recipe": {"epochs": 2}, "terms": ["area"]}]


def with_lap(tiny: Callable[..., RunConfig], **fields: Any) -> Keys:
    """Return the keys of the tiny run with other fields of its LAP network."""
    plain, lap = (model.model_dump() for model in tiny().models)
    return keys(tiny(models=[plain, {**lap, **fields}]))


def test_models_that_say_nothing_of_stages_or_rivals_keep_their_keys(tiny: Callable[..., RunConfig]) -> None:
    config = tiny(terms=["area"])
    components = RunComponents(config)
    assert all(set(model.model_dump(mode="json")) == set(BEFORE) for model in config.models)
    data = components.dataset.identity()
    for cell in train_cells(config, components):
        model = {field: getattr(cell.model, field) for field in BEFORE}
        content = (
            data,
            plan._training_code(cell.model, components),
            model,
            config.recipe,
            components.terms if cell.model.lap else (),
            0,
        )
        assert cell.key == plan._key(f"{cell.model.name}-0", *content)


def test_one_stage_is_the_training_it_describes_however_it_is_written(tiny: Callable[..., RunConfig]) -> None:
    terms = [{"name": term.name, "weight": term.weight} for term in DEFAULT_TERMS]
    assert with_lap(tiny, explained=False) == with_lap(tiny)  # no part of the training
    for stage in ({}, {"recipe": tiny().recipe.model_dump()}, {"terms": terms}):
        assert with_lap(tiny, stages=[stage]) == with_lap(tiny)


REGION: dict[str, Any] = {"terms": [{"name": "region", "region": "object"}], "regions": {"object": {"share": 0.1}}}


@pytest.mark.parametrize(
    "fields",
    [
        {"stages": TWO},
        {"stages": [REGION]},
        {"fixed": ["a"]},
        {"fixed": ["gates"]},
        {"lap": False, "rival": "cam"},
    ],
)
def test_stages_rivals_and_ablations_touch_their_network_alone(
    tiny: Callable[..., RunConfig], fields: dict[str, Any]
) -> None:
    before = keys(tiny())
    assert differences(before, with_lap(tiny, **fields)) == {path for path in before if path[1] == "lap"}


def test_every_setting_of_a_stage_or_rival_is_in_the_key(tiny: Callable[..., RunConfig]) -> None:
    def region(**fields: Any) -> list[dict[str, Any]]:
        return [{**REGION, "regions": {"object": {"share": 0.1, **fields}}}]

    variants: list[dict[str, Any]] = [
        {},
        {"stages": TWO},
        {"stages": TWO[::-1]},
        {"stages": [*TWO, {}]},
        {"stages": [{}, {"recipe": {"epochs": 2, "mode": "frozen"}, "terms": ["area"]}]},
        {"stages": [{}, {"recipe": {"epochs": 2}, "terms": ["presence"]}]},
        *({"stages": region(**fields)} for fields in (
            {}, {"share": 0.2}, {"of": "tag"}, {"outside": True}, {"seed": 1}, {"draw": "random"},
        )),
        *({"lap": False, "rival": rival} for rival in ("cam", "calm", {"name": "cam", "energy_weight": 1})),
        *({"fixed": fixed} for fixed in (["a"], ["gates"], ["a", "gates"])),
    ]  # fmt: skip
    found = [with_lap(tiny, **fields)["train", "lap", 0] for fields in variants]
    assert len(set(found)) == len(found)


def test_the_default_of_an_option_may_be_written_out(tiny: Callable[..., RunConfig]) -> None:
    short, long = ({"lap": False, "rival": rival} for rival in ("cam", {"name": "cam", "energy_weight": 0}))
    assert with_lap(tiny, **short) == with_lap(tiny, **long)


def test_what_all_stages_replace_touches_nothing(tiny: Callable[..., RunConfig]) -> None:
    stages = [{"recipe": {"epochs": 1, "batch_size": 16}, "terms": ["area"]}, *TWO[1:]]
    lap = {**tiny().models[1].model_dump(), "stages": stages}
    once = keys(tiny(models=[lap]))
    assert once == keys(tiny(models=[lap], recipe={"epochs": 7}, terms=["presence"]))


def test_more_images_keep_full_shards(tiny: Callable[..., RunConfig]) -> None:
    before, after = keys(tiny()), keys(tiny(), [*IDS, "image-5"])
    assert {path[4] for path in differences(before, after)} == {4}


def test_what_does_not_change_numbers_changes_no_key(tiny: Callable[..., RunConfig]) -> None:
    how = {"batch_size": 1, "keep_maps": "none", "engine": "ray", "ray": {"gpus": 0.5}, "smoothing": [2]}
    assert keys(tiny()) == keys(tiny(name="other", gallery=1, threads=2, **how))


def test_rounded_maps_are_other_maps(tiny: Callable[..., RunConfig]) -> None:
    before = keys(tiny())
    found = differences(before, keys(tiny(keep_maps="float16")))
    assert found == {path for path in before if path[0] != "train"}


@pytest.mark.slow
def test_how_much_an_explainer_does_at_once_changes_no_key(tiny: Callable[..., RunConfig]) -> None:
    class Batched(Explainer):
        internal_batch_size: int = 4
        batch_size: int = 4
        steps: int = 3

    def content(**given: int) -> object:
        return plan._content(Batched(**given))

    assert content() == content(internal_batch_size=8, batch_size=2)
    assert content() != content(steps=4)


def test_cells_of_a_shard_lie_together(tiny: Callable[..., RunConfig]) -> None:
    config = tiny()
    components = RunComponents(config)
    order = [
        (cell.train.model.name, cell.start)
        for cell in explain_cells(config, components, train_cells(config, components), IDS)
    ]
    assert order == [(model, start) for model in ("plain", "lap") for start in (0, 2, 4) for _ in range(3)]


def test_metrics_that_call_again_are_not_asked_about_masks_nor_about_transformed_maps(
    tiny: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(explainers=["mask", "random"])
    components = RunComponents(config)
    monkeypatch.setattr(type(components.metrics["auc"]), "needs_explain", True)
    cells = list(explain_cells(config, components, train_cells(config, components)[:1], IDS[:1]))
    blur = MapTransform("smooth", 2.0)
    found = {cell.explainer: [(s.metric, s.explainer) for s in score_cells(components, cell, [blur])] for cell in cells}
    assert found["random"] == [("auc", "random"), ("pixel_flipping", "random"), ("pixel_flipping", "random@smooth2")]
    assert found["mask"] == [("pixel_flipping", "mask"), ("pixel_flipping", "mask@smooth2")]


def test_trainings_may_be_judged_by_the_same_draws(tiny: Callable[..., RunConfig]) -> None:
    own, same = keys(tiny(seeds=[0, 1])), keys(tiny(seeds=[0, 1], draws=0))
    touched = differences(own, same)
    assert {path[2] for path in touched} == {1}  # draws of seed 0 are the first training's own
    assert "train" not in {path[0] for path in touched}
    config = tiny(seeds=[0, 1], draws=7)
    components = RunComponents(config)
    cells = explain_cells(config, components, train_cells(config, components), IDS)
    assert {cell.seed - 7 * 100_003 for cell in cells} == {0, 2, 4}
    assert tiny().hash() != tiny(draws=0).hash()


def test_shards_draw_different_random_numbers(tiny: Callable[..., RunConfig]) -> None:
    config = tiny(seeds=[0, 1])
    components = RunComponents(config)
    cells = explain_cells(config, components, train_cells(config, components), IDS)
    seeds = {(cell.train.seed, cell.start): cell.seed for cell in cells}
    assert len(set(seeds.values())) == len(seeds) == 6
