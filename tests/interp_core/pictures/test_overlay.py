"""Overlays and display images: known values, what must not change, names and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from interp_core.errors import ContractError, StoreError
from interp_core.pictures.overlay import file_names, overlay, save_overlays, to_display


@pytest.fixture
def photographs() -> torch.Tensor:
    return torch.rand(3, 3, 20, 30, generator=torch.Generator().manual_seed(0))


def lightness(picture: np.ndarray) -> np.ndarray:
    from skimage.color import rgb2lab

    return rgb2lab(picture)[..., 0]


def test_display_undoes_a_known_normalisation_exactly(photographs: torch.Tensor) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    normalised = (photographs - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    displayed = to_display(normalised, mean=mean, std=std)
    assert displayed.dtype == np.float32
    np.testing.assert_allclose(displayed, photographs.permute(0, 2, 3, 1), atol=1e-6)
    np.testing.assert_allclose(to_display(photographs * 4 - 2, mean=0.5, std=0.25), displayed, atol=1e-6)


def test_display_of_an_unknown_normalisation_does_not_depend_on_it(photographs: torch.Tensor) -> None:
    displayed = to_display(photographs)
    np.testing.assert_allclose(to_display(photographs * 37 - 5), displayed, atol=1e-5)
    assert displayed.min() == 0
    assert displayed.max() == 1
    correlation = np.corrcoef(displayed.ravel(), photographs.permute(0, 2, 3, 1).ravel())[0, 1]
    assert correlation > 0.999


def test_display_stretches_each_image_by_itself_and_ignores_single_outliers(photographs: torch.Tensor) -> None:
    alone = to_display(photographs[:1])
    photographs[0, 0, 0, 0] = 1000.0
    photographs[1] *= 50
    np.testing.assert_allclose(to_display(photographs)[0, 1:], alone[0, 1:], atol=0.01)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_display_shows_other_numbers_of_channels_in_grey(channels: int) -> None:
    images = torch.rand(2, channels, 8, 9, generator=torch.Generator().manual_seed(1))
    displayed = to_display(images, mean=0, std=1)
    assert displayed.shape == (2, 8, 9, 3)
    np.testing.assert_allclose(displayed, images.mean(1)[..., None].expand(-1, -1, -1, 3), atol=1e-6)


def test_display_of_a_constant_image_is_mid_grey() -> None:
    assert np.all(to_display(torch.full((1, 3, 4, 4), -7.0)) == 0.5)


def test_display_takes_half_precision_and_gradients(photographs: torch.Tensor) -> None:
    assert np.isfinite(to_display(photographs.bfloat16().requires_grad_())).all()


def test_display_refuses_what_it_cannot_show(photographs: torch.Tensor) -> None:
    for wrong in (photographs[0], photographs.byte(), photographs.numpy(), photographs[:, :0]):
        with pytest.raises(ContractError, match="floating point images"):
            to_display(wrong)  # type: ignore[arg-type]
    with pytest.raises(ContractError, match="mean and std together"):
        to_display(photographs, mean=0.5)
    with pytest.raises(ContractError, match=r"one per channel \(3\)"):
        to_display(photographs, mean=(0.5, 0.5), std=0.5)
    photographs[0, 0, 0, 0] = float("nan")
    with pytest.raises(ContractError, match="NaN"):
        to_display(photographs)


def test_overlay_keeps_the_photograph_where_there_is_no_evidence(photographs: torch.Tensor) -> None:
    image = photographs[0].permute(1, 2, 0).numpy()
    values = np.zeros((20, 30))
    values[:, 15:] = 1
    left_half = overlay(image, values)[:, :15] / 255
    grey = image.mean(2, keepdims=True)
    np.testing.assert_allclose(left_half, (0.75 * (image + grey) / 2)[:, :15], atol=0.003)
    assert np.array_equal(overlay(image, np.zeros((20, 30)))[:, :15], overlay(image, values)[:, :15])


@pytest.mark.parametrize("brightness", [0.0, 0.5, 0.8])
def test_overlay_is_lighter_and_more_coloured_the_higher_the_map(brightness: float) -> None:
    ramp = np.linspace(0.05, 1, 50)[None]
    picture = overlay(np.full((1, 50, 3), brightness), ramp)
    assert lightness(picture)[0, -1] == lightness(picture).max()
    upper = lightness(picture)[0, 25:]
    assert np.all(np.diff(upper) > -0.5)


def test_overlay_does_not_depend_on_the_scale_of_the_map_and_takes_negative_values_as_none(
    photographs: torch.Tensor,
) -> None:
    image = photographs[0].permute(1, 2, 0).numpy()
    values = np.random.default_rng(3).random((20, 30))
    picture = overlay(image, values)
    assert np.array_equal(overlay(image, values * 1e-300), picture)
    assert picture.dtype == np.uint8
    assert np.array_equal(overlay(image, values - 0.5), overlay(image, (values - 0.5).clip(0)))


def test_overlay_refuses_what_does_not_fit(photographs: torch.Tensor) -> None:
    image = photographs[0].permute(1, 2, 0).numpy()
    with pytest.raises(ContractError, match=r"\(H, W, 3\) and \(H, W\)"):
        overlay(image, np.zeros((20, 31)))
    with pytest.raises(ContractError, match="NaN"):
        overlay(image, np.full((20, 30), np.nan))


def test_saved_overlays_have_the_size_of_the_images_and_hold_the_overlays(
    photographs: torch.Tensor, tmp_path: Path
) -> None:
    images = to_display(photographs)
    maps = torch.rand(3, 1, 20, 30, generator=torch.Generator().manual_seed(2))
    paths = save_overlays(tmp_path / "new" / "folder", images, maps, ["a/b", "a/b", "../c"])
    assert [path.name for path in paths] == ["a_b.png", "a_b-2.png", "c.png"]
    assert sorted(paths) == sorted((tmp_path / "new" / "folder").iterdir())
    for path, image, values in zip(paths, images, maps, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), overlay(image, values[0]))


def test_saving_writes_nothing_where_one_map_is_broken(photographs: torch.Tensor, tmp_path: Path) -> None:
    maps = torch.ones(3, 1, 20, 30)
    maps[2, 0, 0, 0] = float("nan")
    with pytest.raises(ContractError, match="NaN"):
        save_overlays(tmp_path, to_display(photographs), maps, ["a", "b", "c"])
    assert not list(tmp_path.iterdir())


def test_saving_says_what_is_wrong(photographs: torch.Tensor, tmp_path: Path) -> None:
    images, maps = to_display(photographs), torch.ones(3, 1, 20, 30)
    with pytest.raises(ContractError, match="3 images, 2 names"):
        save_overlays(tmp_path, images, maps, ["a", "b"])
    with pytest.raises(ContractError, match="maps"):
        save_overlays(tmp_path, images, maps[:, 0], ["a", "b", "c"])
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write overlays"):
        save_overlays(tmp_path / "file", images, maps, ["a", "b", "c"])


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("n02/ILSVRC_7.JPEG", "n02_ILSVRC_7.JPEG"),
        ("..\\..\\windows: a*b?", "windows_a_b"),
        ("", "image"),
        ("...", "image"),
        ("Łódź été", "Łódź_été"),
        ("x" * 400, "x" * 60),
        ("a\x00b\nc", "a_b_c"),
    ],
)
def test_file_names_are_plain(name: str, plain: str) -> None:
    assert file_names([name]) == [plain]


def test_file_names_are_each_given_once() -> None:
    assert file_names(["a", "A", "a-2", "a"]) == ["a", "A-2", "a-2-2", "a-3"]
