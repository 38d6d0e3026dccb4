from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import cli
from benchmarks.config.run import RunConfig
from benchmarks.run.engine import Engine, Outcome
from benchmarks.store.cell_files import PACKED, PackedCells, read_provenance
from benchmarks.store.merging import merge
from benchmarks.store.packing import pack, unpack
from benchmarks.store.run_folder import Store, read_run
from interp_core.errors import StoreError

KEYS = ["model", "explainer", "metric", "seed", "image_id"]


@pytest.fixture
def folder(done: tuple[RunConfig, Outcome], tmp_path: Path) -> Path:
    return shutil.copytree(done[1].folder, tmp_path / done[1].folder.name)


def scores(folder: Path) -> pd.DataFrame:
    return read_run(folder).scores.sort_values(KEYS, ignore_index=True)


@pytest.mark.slow
def test_a_packed_run_reads_as_before(folder: Path) -> None:
    before, count = scores(folder), len(list((folder / "cells").iterdir()))
    assert pack(folder) == count
    assert not list((folder / "cells").iterdir())
    pd.testing.assert_frame_equal(scores(folder), before)
    one = str(before["metric"].iloc[0])
    only = read_run(folder, only={one}).scores
    assert set(only["metric"]) == {one}
    assert len(only) == (before["metric"] == one).sum()


@pytest.mark.slow
def test_packing_twice_and_unpacking_lose_nothing(folder: Path) -> None:
    paths = sorted((folder / "cells").iterdir())
    whole = {path.name: (read_provenance(path), pd.read_parquet(path)) for path in paths}
    pack(folder)
    assert pack(folder) == len(whole) == unpack(folder)
    assert not (folder / PACKED).exists()
    for path in sorted((folder / "cells").iterdir()):
        made, table = whole.pop(path.name)
        assert read_provenance(path) == made
        pd.testing.assert_frame_equal(pd.read_parquet(path), table)
    assert not whole


def test_one_file_is_far_smaller(folder: Path) -> None:
    before = sum(path.stat().st_size for path in (folder / "cells").iterdir())
    pack(folder)
    assert (folder / PACKED).stat().st_size < before / 3


@pytest.mark.slow
def test_a_packed_run_is_not_computed_again(done: tuple[RunConfig, Outcome], folder: Path) -> None:
    config = done[0].model_copy(update={"output": folder.parent})
    pack(folder)
    again = Engine(config).run()
    assert again.computed == 0
    assert again.reused > 0
    assert not list((folder / "cells").iterdir())


def test_a_cell_of_its_own_goes_before_the_packed_one(folder: Path) -> None:
    path = sorted((folder / "cells").iterdir())[0]
    store, table = Store(folder), pd.read_parquet(path)
    pack(folder)
    table["value"] = 0.25
    store.write_cell(path.stem, table, {"made": "since"})
    found = store.read_cell(path.stem)
    assert found is not None
    assert (found["value"] == 0.25).all()
    assert unpack(folder) > 1
    assert read_provenance(path) == {"made": "since"}


def test_a_packed_run_is_refused_by_merge_until_it_is_unpacked(folder: Path, done: tuple[RunConfig, Outcome]) -> None:
    pack(folder)
    with pytest.raises(StoreError, match="interp-bench unpack"):
        merge([done[1].folder, folder], folder.parent / "all")
    assert not (folder.parent / "all").exists()


def test_an_unfinished_run_is_not_packed(folder: Path) -> None:
    store, record = Store(folder), read_run(folder).record
    store.write_record(record.model_copy(update={"finished": None}))
    with pytest.raises(StoreError, match="not finished"):
        pack(folder)


def test_damage_is_told_and_nothing_deleted(folder: Path) -> None:
    path = sorted((folder / "cells").iterdir())[3]
    path.write_bytes(b"PAR1 no")
    count = len(list((folder / "cells").iterdir()))
    with pytest.raises(StoreError, match=path.stem):
        pack(folder)
    assert len(list((folder / "cells").iterdir())) == count
    assert not (folder / PACKED).exists()
    (folder / PACKED).write_bytes(b"PAR1 no")
    with pytest.raises(StoreError, match=PACKED):
        PackedCells.read(folder)
    with pytest.raises(StoreError, match=PACKED):
        read_run(folder)


def test_nothing_packed(folder: Path) -> None:
    with pytest.raises(StoreError, match="nothing is packed"):
        unpack(folder)


def test_commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("pack", "unpack"):
        with suppress(SystemExit):
            cli.main([command, str(folder)])
        assert "cells in" in capsys.readouterr().out
