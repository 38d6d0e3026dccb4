"""Images of one's own are explained into files that people look at, and that programs read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.browser import CHROMIUM, NO_BROWSER, evaluate
from helpers.explaining_files import CLASSES, NAME, SIDE
from PIL import Image
from torch import nn

import interp_core
from benchmarks.config.errors import ConfigError
from benchmarks.explaining import ExplainOptions, explain_images
from benchmarks.explaining.class_names import read_names
from benchmarks.explaining.draw import TEXT, display_size, draw_overlay, fit_text, spread, to_image_box
from benchmarks.explaining.formats import Format
from benchmarks.explaining.network import ImageView, NetworkSource, OpenNetwork, open_network
from benchmarks.explaining.rows import broad_regions
from interp_core.datasets.files.resize import geometry_of
from interp_core.errors import ContractError, InterpError

pytestmark = pytest.mark.slow

EVERYTHING = ExplainOptions(top=2, formats=(Format.png, Format.npy, Format.json), batch_size=5)


def opened(weights: Path) -> OpenNetwork:
    return open_network(NetworkSource(NAME, weights, image_size=SIDE))


class Colour(nn.Module):
    """Network whose logit of class c is the mean of colour channel c."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 3, 4, 4, bias=False)
        self.fc = nn.Linear(3, 3, bias=False)
        with torch.no_grad():
            self.features.weight.copy_(torch.eye(3)[:, :, None, None].expand(3, 3, 4, 4) / 16)
            self.fc.weight.copy_(9 * torch.eye(3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(images).relu().mean((2, 3)))


def test_every_image_and_class_has_its_files(weights: Path, photographs: Path, tmp_path: Path) -> None:
    network = opened(weights)
    report = explain_images(network, [photographs], tmp_path / "maps", classes=["ä", "b", "c", "d"], options=EVERYTHING)
    assert len(report.images) == 12
    assert list(report.unreadable) == ["broken.jpg"]
    table = json.loads((tmp_path / "maps" / "explanations.json").read_text(encoding="utf-8"))
    assert [row["file"] for row in table["images"]] == [row.file for row in report.images]
    assert table["unreadable"].keys() == {"broken.jpg"}
    for row in table["images"]:
        width, height = row["size"]
        assert Image.open(row["file"]).size == (width, height)
        assert [entry["probability"] for entry in row["classes"]] == sorted(
            (entry["probability"] for entry in row["classes"]), reverse=True
        )
        for entry in row["classes"]:
            assert entry["name"] == ["ä", "b", "c", "d"][entry["index"]]
            values = np.load(tmp_path / "maps" / entry["map"])
            assert values.shape == (SIDE, SIDE)
            # The map and the bias are what the logit consists of.
            assert values.sum(dtype=np.float64) + entry["bias"] == pytest.approx(entry["logit"], abs=1e-3)
            picture = Image.open(tmp_path / "maps" / entry["picture"])
            assert picture.size == (display_size((width, height))[0], display_size((width, height))[1] + TEXT)
            for region in entry["boxes"]:
                left, top, right, bottom = region["box"]
                assert 0 <= left < right <= width
                assert 0 <= top < bottom <= height
    names = [entry["picture"] for row in table["images"] for entry in row["classes"]]
    assert len(set(names)) == 24


def test_batches_do_not_change_an_explanation(weights: Path, photographs: Path, tmp_path: Path) -> None:
    for size in (1, 5):
        options = ExplainOptions(formats=(Format.npy,), batch_size=size)
        report = explain_images(opened(weights), [photographs], tmp_path / str(size), options=options)
        assert report.files == []
    for path in (tmp_path / "1").glob("*.npy"):
        np.testing.assert_allclose(np.load(path), np.load(tmp_path / "5" / path.name), atol=1e-5)


def test_boxes_lie_on_what_decided(tmp_path: Path) -> None:
    pixels = np.zeros((120, 200, 3), np.uint8)
    pixels[30:60, 120:150, 1] = 255
    Image.fromarray(pixels).save(tmp_path / "green.png")
    lap = interp_core.attach(Colour(), image_size=60).eval()
    view = ImageView(60, 1.0, "bilinear", (0.0,) * 3, (1.0,) * 3)
    report = explain_images(
        OpenNetwork(lap, "colour", view), [tmp_path / "green.png"], tmp_path / "maps", classes=("red", "green", "blue")
    )
    [row] = report.images
    assert row.classes[0].name == "green"
    # The centre of 120 x 120 pixels is what the network sees.
    assert row.seen == (40, 0, 160, 120)
    left, top, right, bottom = row.classes[0].boxes[0]["box"]
    assert (left + right) / 2 == pytest.approx(135, abs=6)
    assert (top + bottom) / 2 == pytest.approx(45, abs=6)
    assert 15 <= right - left <= 50
    drawn = np.asarray(Image.open(tmp_path / "maps" / "green.png")).astype(int)
    scale = drawn.shape[1] / 200
    inside, outside = (drawn[round(y * scale), round(x * scale)] for y, x in ((45, 135), (45, 20)))
    assert inside.sum() > outside.sum() + 200


def test_steps_move_the_map_and_keep_its_sum(weights: Path, photographs: Path, tmp_path: Path) -> None:
    image, network, maps = next(photographs.rglob("*.png")), opened(weights), []
    for steps in (0, 2):
        folder, options = tmp_path / str(steps), ExplainOptions(steps=steps, formats=(Format.npy,))
        row = explain_images(network, [image], folder, options=options).images[0].classes[0]
        maps.append(np.load(folder / str(row.map)))
        assert abs(maps[-1].sum(dtype=np.float64) + row.bias - row.logit) < 1e-3
    assert not np.array_equal(*maps)


def test_one_logit_has_a_sigmoid_and_the_second_name(photographs: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    view = ImageView(SIDE, 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)
    network = OpenNetwork(interp_core.attach(net, image_size=SIDE).eval(), "one", view)
    report = explain_images(network, [photographs], tmp_path / "maps", classes=["healthy", "ill"])
    row = report.images[0].classes[0]
    assert row.name == "ill"
    assert row.probability == pytest.approx(1 / (1 + np.exp(-row.logit)), abs=1e-5)


def test_the_page_is_complete_and_fits_a_phone(weights: Path, photographs: Path, tmp_path: Path) -> None:
    (photographs / "<script>.png").write_bytes(next(photographs.rglob("bild*.png")).read_bytes())
    explain_images(opened(weights), [photographs], tmp_path / "maps", options=ExplainOptions(top=2))
    text = (tmp_path / "maps" / "index.html").read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "broken.jpg" in text
    assert text.count("<article>") == 13
    assert text.count("<figure>") == 13 * 3
    assert 'src="data:image/jpeg' in text
    assert 'src="http' not in text
    if CHROMIUM is None:
        pytest.skip(NO_BROWSER)
    text = text.replace("default-src 'none'", "default-src 'none'; script-src 'none'")
    for width in (390, 1280):
        assert evaluate(text, tmp_path, "document.documentElement.scrollWidth <= innerWidth", width) is True


def test_names_are_one_a_class(weights: Path, photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=f"{CLASSES} classes"):
        explain_images(opened(weights), [photographs], tmp_path, classes=["a", "b"])


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "cat\ndog, big\n\n", ["cat", "dog, big"]),
        ("b.txt", "\ufeffKätzchen\r\nHund\r\n", ["Kätzchen", "Hund"]),
        ("a.json", '["cat", "dog"]', ["cat", "dog"]),
        ("b.json", '{"1": "dog", "0": "cat"}', ["cat", "dog"]),
        ("c.json", '{"dog": 1, "cat": 0}', ["cat", "dog"]),
    ],
)
def test_names_are_read_as_people_have_them(name: str, text: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert read_names(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", b""), ("b.txt", b"\xff\xfe\x00"), ("a.json", b"{"), ("b.json", b"3")]
)
def test_files_without_names_are_told(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=name):
        read_names(tmp_path / name)


def test_what_is_no_network_or_image_is_told(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InterpError, match="does not exist"):
        explain_images(opened(weights), [tmp_path / "none.jpg"], tmp_path / "maps")
    with pytest.raises(InterpError, match="no network"):
        explain_images("no_such_network", [weights], tmp_path / "maps", weights=weights)


def test_a_map_is_drawn_where_the_network_looked() -> None:
    geometry = geometry_of((200, 100), 10)
    whole = spread(np.ones((10, 10), np.float32), geometry, (400, 200))
    assert whole.shape == (200, 400)
    assert whole[:, 100:300].min() == pytest.approx(1)
    assert whole[:, :100].max() == whole[:, 300:].max() == 0
    assert to_image_box((0, 0, 10, 5), geometry) == (50, 0, 150, 50)


def test_text_that_is_too_long_keeps_its_number() -> None:
    from benchmarks.explaining.draw import _font

    text = fit_text("a very long name of a class that no picture holds 0.731", 120, _font())
    assert text.endswith("… 0.731")
    assert _font().getlength(text) <= 120
    picture = draw_overlay(
        Image.new("L", (40, 1000)), np.ones((8, 8)), geometry_of((40, 1000), 8), [], "x" * 300 + " 1"
    )
    assert picture.width == display_size((40, 1000))[0]


def test_boxes_are_few_and_without_crumbs() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.zeros(1, 1, 96, 96)
    maps[..., 10:40, 10:40] = torch.rand(30, 30, generator=generator) > 0.5
    maps[..., 70:90, 60:80] = torch.rand(20, 20, generator=generator) > 0.5
    maps[..., 90, 5] = 3.0
    [regions] = broad_regions(maps, 0.6, 5)
    assert len(regions) == 2
    assert regions[0].mass > regions[1].mass > 0.05
