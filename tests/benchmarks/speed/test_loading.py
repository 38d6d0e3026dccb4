"""The loading benchmark: its files can be read by all sides, and its ratios are those of the times given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmarks.speed import loading
from interp_core.datasets.files.images import read_image

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("write", "decode", "size"),
    [
        (loading.write_photographs, loading.decode_photographs, loading.PHOTOGRAPH),
        (loading.write_radiographs, loading.decode_radiographs, loading.RADIOGRAPH),
    ],
)
def test_files_are_what_they_are_said_to_be(
    tmp_path: Path, write: Callable[[Path, int], None], decode: Callable[[Sequence[Path]], None], size: tuple[int, int]
) -> None:
    write(tmp_path, 2)
    paths = sorted(tmp_path.iterdir())
    decode(paths)
    assert [read_image(path).shape for path in paths] == [(size[1], size[0], 3)] * 2
    assert len(loading.Folder(root=tmp_path).records("test")) == 2


def test_ratios_are_of_throughput_round_by_round() -> None:
    rounds = [{"loop": 2.0, "loader": 1.0}, {"loop": 4.0, "loader": 1.0}, {"loop": 9.0, "loader": 3.0}]
    row = loading.summarise("some", 12, 2, rounds, "loader", "loop")
    assert (row.ratio, row.q1, row.q3) == (3.0, 2.5, 3.5)
    assert (row.per_second, row.reference_per_second) == (12.0, 3.0)
