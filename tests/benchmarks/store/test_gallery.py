from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import runs as synthetic

from benchmarks.report import Gallery


def test_a_gallery_comes_back_from_its_arrays(tmp_path: Path) -> None:
    whole = synthetic.gallery(images=4, size=16)
    rows_of = {("lap", "lime"): np.array([1, 3])}
    maps = {**whole.maps, ("lap", "lime"): whole.maps["lap", "lime"][[1, 3]]}
    gallery = Gallery(whole.images, whole.masks, whole.ids, whole.labels, maps, rows_of)
    np.savez_compressed(tmp_path / "gallery.npz", **gallery.to_arrays())
    with np.load(tmp_path / "gallery.npz", allow_pickle=False) as content:
        again = Gallery.from_arrays(dict(content))
    assert again.ids == gallery.ids
    assert again.image_ids("lap", "lime") == {"test-0001", "test-0003"}
    assert again.image_ids("lap", "lap") == set(gallery.ids)
    assert again.shared_positions("lap") == [1, 3]
    assert again.shared_positions("plain") == [0, 1, 2, 3]
    np.testing.assert_allclose(again.map_of("lap", "lime", 3), maps["lap", "lime"][1], atol=2e-3)
    with pytest.raises(KeyError, match="no map of lime on lap"):
        again.map_of("lap", "lime", 0)
    assert again.positions("lap", "absent") == []


@pytest.mark.parametrize("scale", [1e6, 1e-7])
def test_maps_beyond_half_precision_keep_their_picture(scale: float) -> None:
    whole = synthetic.gallery(images=2, size=16)
    maps = {("lap", "lap"): np.abs(whole.maps["lap", "lap"]) * np.float32(scale)}
    again = Gallery.from_arrays(Gallery(whole.images, whole.masks, whole.ids, whole.labels, maps).to_arrays())
    for image in range(2):
        kept, given = again.maps["lap", "lap"][image], maps["lap", "lap"][image]
        np.testing.assert_allclose(kept / kept.max(), given / given.max(), atol=1e-3)
