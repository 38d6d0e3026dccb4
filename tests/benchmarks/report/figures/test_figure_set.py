from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.slow


def test_all_formats_of_every_figure_are_written(folder: Path) -> None:
    names = {path.stem for path in (folder / "figures").iterdir() if not path.stem.endswith("_narrow")}
    assert names == {
        "mean_rank", "critical_difference", "scores_localisation", "scores_faithfulness", "scores_descriptors",
        "cost_forwards", "cost_seconds", "gallery_plain", "gallery_lap",
    }  # fmt: skip
    for name in names:
        picture = Image.open(folder / "figures" / f"{name}.png")
        assert picture.info["dpi"][0] >= 149.9
        assert (folder / "figures" / f"{name}.svg").read_bytes().startswith(b"<?xml")
        assert (folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert not list(folder.rglob("*.tmp"))
