from __future__ import annotations

from typing import Any

import pytest

from benchmarks.config.errors import ConfigError
from benchmarks.config.overrides import apply_assignments, parse_assignment
from interp_core.errors import InterpError, UnknownNameError

NET = {"name": "plain", "backbone": "resnet18"}
CONTENT: dict[str, Any] = {
    "dataset": "digits-in-scenes",
    "recipe": {"epochs": 3},
    "models": [NET, {"name": "lap", "backbone": "resnet18"}],
    "metrics": ["auc", {"name": "pixel_flipping", "steps": 4}],
    "images": 4,
}


def changed_fields(assignment: str) -> dict[str, Any]:
    """Return the fields that an assignment changes."""
    after = apply_assignments(CONTENT, [assignment])
    return {key: value for key, value in after.items() if CONTENT.get(key) != value}


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("images=9", {"images": 9}),
        ("seeds=[0, 1]", {"seeds": [0, 1]}),
        ("recipe.epochs=7", {"recipe": {"epochs": 7}}),
        ("recipe.channels_last=true", {"recipe": {"epochs": 3, "channels_last": True}}),
        ("ray.gpus=0.5", {"ray": {"gpus": 0.5}}),
        ("dataset.image_size=32", {"dataset": {"name": "digits-in-scenes", "image_size": 32}}),
        ("metrics.pixel_flipping.steps=8", {"metrics": ["auc", {"name": "pixel_flipping", "steps": 8}]}),
        ("metrics.1.steps=8", {"metrics": ["auc", {"name": "pixel_flipping", "steps": 8}]}),
        ("metrics.auc.engine=quantus", {"metrics": [{"name": "auc", "engine": "quantus"}, CONTENT["metrics"][1]]}),
        ("models.lap.lap=true", {"models": [CONTENT["models"][0], {**CONTENT["models"][1], "lap": True}]}),
        ("models.plain.kwargs.groups=2", {"models": [{**NET, "kwargs": {"groups": 2}}, CONTENT["models"][1]]}),
        ("name=a=b", {"name": "a=b"}),
    ],
)  # fmt: skip
def test_one_value_is_replaced_where_the_path_leads(assignment: str, expected: dict[str, Any]) -> None:
    assert changed_fields(assignment) == {key: value for key, value in expected.items() if CONTENT.get(key, 0) != value}


def test_later_ones_win_and_the_original_stays() -> None:
    before = repr(CONTENT)
    assert apply_assignments(CONTENT, ["recipe.epochs=5", "recipe.epochs=6"])["recipe"] == {"epochs": 6}
    assert repr(CONTENT) == before


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("images", "path and a value"),
        ("=3", "path and a value"),
        ("a..b=3", "path and a value"),
        ("images=[1", "is not YAML"),
        ("images.small=3", "no field 'small'"),
        ("metrics.9.steps=3", "only 2 entries"),
    ],
)
def test_paths_that_lead_nowhere(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_assignments(CONTENT, [assignment])


def test_unknown_entries_come_with_close_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"metrics\.pixel_fliping\.steps.*did you mean pixel_flipping"):
        apply_assignments(CONTENT, ["metrics.pixel_fliping.steps=3"])
    assert issubclass(UnknownNameError, InterpError)


def test_values_are_yaml() -> None:
    assert apply_assignments(CONTENT, ["images="])["images"] is None
    assert parse_assignment("a.b={x: [1, no]}") == ("a.b", {"x": [1, False]})
