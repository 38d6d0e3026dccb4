"""The registry of names and the errors a user can act on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import pytest

from interp_core import registry as registry_module
from interp_core.errors import BackboneError, ContractError, InterpError, StoreError, UnknownNameError
from interp_core.registry import ClassRegistry, Registry


def filled() -> Registry[str]:
    registry: Registry[str] = Registry("fruit")
    for name in ("pear", "apple", "quince"):
        registry.register(name)(name.upper())
    return registry


def test_register_returns_the_thing_and_look_up_finds_it() -> None:
    registry: Registry[Callable[[], int]] = Registry("number")

    @registry.register("one")
    def one() -> int:
        return 1

    assert registry["one"] is one
    assert one() == 1


def test_it_is_a_mapping_in_order_of_names() -> None:
    registry = filled()
    assert list(registry) == ["apple", "pear", "quince"]
    assert len(registry) == 3
    assert "pear" in registry
    assert "plum" not in registry
    assert dict(registry.items()) == {"apple": "APPLE", "pear": "PEAR", "quince": "QUINCE"}


def test_unknown_name_lists_close_matches_only() -> None:
    with pytest.raises(UnknownNameError) as error:
        filled()["quinze"]
    assert str(error.value) == "unknown fruit 'quinze': did you mean quince?"


def test_unknown_name_far_from_all_lists_everything() -> None:
    with pytest.raises(UnknownNameError, match="unknown fruit 'zzz': known: apple, pear, quince"):
        filled()["zzz"]


def test_two_things_may_not_share_a_name() -> None:
    registry = filled()
    with pytest.raises(ContractError, match="two fruits want the name 'pear'"):
        registry.register("pear")("OTHER")
    assert registry["pear"] == "PEAR"


def test_the_same_thing_may_be_registered_again() -> None:
    registry: Registry[type] = Registry("class")

    def define() -> type:
        class Thing:
            pass

        return Thing

    first, again = define(), define()
    registry.register("thing")(first)
    registry.register("thing")(again)
    assert registry["thing"] is again


def test_get_with_a_default_does_not_swallow_unknown_names() -> None:
    # UnknownNameError is no KeyError, so that a misspelt name is never taken for an absent option.
    with pytest.raises(UnknownNameError):
        filled().get("plum")


def test_entry_points_are_loaded_once_and_only_when_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    registry: Registry[str] = Registry("fruit", "some.group")
    asked: list[str] = []

    class Point:
        def load(self) -> None:
            registry.register("medlar")("MEDLAR")

    def entry_points(group: str) -> list[Point]:
        asked.append(group)
        return [Point()]

    monkeypatch.setattr(registry_module, "entry_points", entry_points)
    registry.register("pear")("PEAR")
    assert asked == []
    assert registry["medlar"] == "MEDLAR"
    assert list(registry) == ["medlar", "pear"]
    assert asked == ["some.group"]


@pytest.mark.parametrize("kind", [UnknownNameError, BackboneError, ContractError, StoreError])
def test_all_errors_are_the_users_to_mend(kind: type[Exception]) -> None:
    assert issubclass(kind, InterpError)


def test_messages_are_one_line() -> None:
    assert "\n" not in str(UnknownNameError("model", "restnet18", ["resnet18", "resnet34", "vgg11"]))


def test_long_lists_of_names_are_cut() -> None:
    names = [f"net{i:03d}" for i in range(500)]
    message = str(UnknownNameError("model", "qqqq", names))
    assert "500 in all" in message
    assert len(message) < 300


def test_a_class_of_the_same_name_from_elsewhere_does_not_replace_one_in_silence() -> None:
    fruits: Registry[type] = Registry("fruit")
    own = fruits.register("pear")(type("Pear", (), {"__module__": "orchard"}))
    fruits.register("pear")(type("Pear", (), {"__module__": "orchard"}))  # run again
    with pytest.raises(ContractError, match="two fruits want the name 'pear'"):
        fruits.register("pear")(type("Pear", (), {"__module__": "interp_bench_plugin_mine"}))
    assert fruits["pear"].__module__ == own.__module__ == "orchard"


class Fruit:
    name: ClassVar[str] = ""
    title: ClassVar[str] = ""


def test_a_registered_class_has_its_name_and_a_title() -> None:
    fruits: ClassRegistry[Fruit] = ClassRegistry("fruit")

    @fruits.register("pear")
    class Pear(Fruit):
        pass

    @fruits.register("sour_cherry")
    class SourCherry(Fruit):
        title = "Sour cherry"

    assert fruits["pear"] is Pear
    assert (Pear.name, Pear.title) == ("pear", "pear")
    assert (SourCherry.name, SourCherry.title) == ("sour_cherry", "Sour cherry")
    assert (Fruit.name, Fruit.title) == ("", "")


def test_a_class_without_titles_gets_none() -> None:
    class Untitled:
        name: ClassVar[str] = ""

    things: ClassRegistry[Untitled] = ClassRegistry("thing")
    assert things.register("plain")(Untitled).name == "plain"
    assert not hasattr(Untitled, "title")


def test_a_refused_class_keeps_its_name() -> None:
    fruits: ClassRegistry[Fruit] = ClassRegistry("fruit")
    fruits.register("pear")(type("Pear", (Fruit,), {}))
    plum = fruits.register("plum")(type("Plum", (Fruit,), {}))
    with pytest.raises(ContractError, match="two fruits want the name 'pear'"):
        fruits.register("pear")(plum)
    assert plum.name == "plum"


@pytest.mark.parametrize("recursive", [False, True])
def test_all_modules_of_a_package_are_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recursive: bool
) -> None:
    name = f"orchard_{recursive}".lower()
    inner = tmp_path / name / "inner"
    inner.mkdir(parents=True)
    for path in (tmp_path / name / "pear.py", inner / "__init__.py", inner / "plum.py"):
        path.write_text("")
    call = f"import_modules(__path__, __name__, recursive={recursive})"
    (tmp_path / name / "__init__.py").write_text(f"from interp_core.registry import import_modules\n\n{call}\n")
    monkeypatch.syspath_prepend(tmp_path)
    import_module(name)
    imported = {module for module in sys.modules if module.startswith(f"{name}.")}
    for module in (name, *imported):
        monkeypatch.delitem(sys.modules, module)
    assert imported == {f"{name}.pear", f"{name}.inner"} | ({f"{name}.inner.plum"} if recursive else set())
