"""Draw damaged and odd weights, checkpoints, run folders and diagnoses with Hypothesis: `tox -e fuzz`.

Each example writes small valid files, changes one, and opens them as a user would. It must end within ten seconds in
the content, an `InterpError` of one line, or a file that is reported; nothing that was stored may go without a word.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from helpers.cue_nets import RED_CELLS, cue_images, follower
from helpers.diagnoses import effect, finding
from helpers.fuzzing import FUZZ, as_text, changed, changed_arrays, damaged, folder, refused
from helpers.learners import make_tiny, squares
from helpers.runs import gallery, meta
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

import interp_core
from benchmarks.config.weight_files import holds_lap, load_weights, read_weights
from benchmarks.diagnosis.finding import Diagnosis
from benchmarks.diagnosis.output.findings_file import read_findings, write_findings
from benchmarks.diagnosis.region import FixedRegion, UnionRegion, load_region, save_regions
from benchmarks.store.cell_files import SCHEMA
from benchmarks.store.locations import open_location
from benchmarks.store.packing import pack
from benchmarks.store.record import Problem, RunRecord
from benchmarks.store.run_folder import Store, read_run
from interp_core import Recipe
from interp_core.training.checkpoint import Checkpoint

RECIPE = Recipe(epochs=2, batch_size=6)
SUBJECT, (IMAGES, _) = follower(), cue_images(2)
ODD_TENSORS = st.sampled_from([
    torch.tensor(float("nan")), torch.zeros(0), torch.zeros(3, dtype=torch.complex64), torch.zeros(2, 2).to_sparse(),
    torch.zeros(2, device="meta"), torch.tensor(10**12), torch.zeros(1).expand(10**9), torch.zeros(3, dtype=torch.bool),
    None, 3, "x", {}, [], {"a": {}}, torch.zeros(3, dtype=torch.float16), np.zeros(3),
])  # fmt: skip
KEYS = st.sampled_from(["", ".", "module.", "state_dict", "model", 0, "a.b", "head.a", "backbone.x"])


def changed_tree(draw: Any, content: Any) -> Any:
    """Replace, remove, rename or add entries of dictionaries of tensors and plain values."""
    content = copy.copy(content)
    for _ in range(draw(st.integers(1, 3))):
        node = content
        while isinstance(node, dict) and node:
            key = draw(st.sampled_from(list(node)))
            if isinstance(node[key], dict) and node[key] and draw(st.integers(0, 3)):
                node[key] = node = dict(node[key])
                continue
            how, value = draw(st.sampled_from(["odd", "odd", "remove", "rename", "add"])), node[key]
            if how in ("remove", "rename"):
                del node[key]
            if how != "remove":
                node[key if how == "odd" else draw(KEYS)] = value if how == "rename" else draw(ODD_TENSORS)
            break
    return content


def write_torch(draw: Any, path: Path, content: Any) -> None:
    """Write content with torch, changed or damaged."""
    how = draw(st.sampled_from(["changed", "changed", "damaged", "both"]))
    content = content if how == "damaged" else changed_tree(draw, content)
    torch.save(content, path, _use_new_zipfile_serialization=draw(st.booleans()))
    if how != "changed":
        path.write_bytes(damaged(draw, path.read_bytes()))


def write_safetensors(draw: Any, path: Path, weights: dict[str, Tensor]) -> None:
    """Write weights as safetensors, with a changed header, an odd tensor or damaged bytes."""
    save_file(weights, path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    if draw(st.booleans()):
        header = json.dumps(changed(draw, json.loads(data[8 : 8 + length]))).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    else:
        path.write_bytes(damaged(draw, data))


def sentinel(network: nn.Module) -> nn.Module:
    """Return a copy whose weights are one odd value, so that a weight that stays is seen."""
    network = copy.deepcopy(network)
    with torch.no_grad():
        for value in network.state_dict().values():
            value.fill_(77)
    return network


NETWORK, LAP = make_tiny(lap=False), make_tiny(lap=True)


@FUZZ
@given(st.data())
def test_weights(data: st.DataObject) -> None:
    own = data.draw(st.sampled_from([NETWORK, LAP]))
    weights = {name: value.contiguous() for name, value in own.state_dict().items()}
    wrapped = {
        "plain": weights, "trainer": {"epoch": 3, "state_dict": weights, "optimizer": {"state": {}}, "lr": [0.1]},
        "lightning": {"state_dict": {f"model.{name}": value for name, value in weights.items()}, "callbacks": {}},
        "parallel": {"model": {f"module.{name}": value for name, value in weights.items()}},
    }  # fmt: skip
    with folder() as root:
        path = root / data.draw(st.sampled_from(["a.pt", "a.pth", "a.safetensors", "pytorch_model.bin"]))
        if data.draw(st.booleans()):
            write_safetensors(data.draw, path, weights)
        else:
            write_torch(data.draw, path, wrapped[data.draw(st.sampled_from(sorted(wrapped)))])
        refused(lambda: holds_lap(path))
        tensors = refused(lambda: read_weights(path))
        assert tensors is None or all(isinstance(value, Tensor) for value in tensors.values())
        network = sentinel(own)
        if refused(lambda: load_weights(network, path) or True):
            kept = [name for name, value in network.state_dict().items() if value.numel() and bool((value == 77).any())]
            assert all(name.endswith("num_batches_tracked") for name in kept), f"{kept} are not in the file"


class Stop(interp_core.training.Callback):
    """Ends a training after its first epoch."""

    def __call__(self, epoch: Any) -> None:
        if epoch.epoch == 2:
            raise KeyboardInterrupt


def training(path: Path, *progress: Any) -> None:
    interp_core.fit(make_tiny(lap=True), *squares(12), recipe=RECIPE, progress=list(progress), checkpoint=path)


def checkpoint() -> Any:
    with folder() as root:
        try:
            training(root / "a.pt", Stop())
        except KeyboardInterrupt:
            return torch.load(root / "a.pt", weights_only=True)
    raise AssertionError


STORED = checkpoint()


@FUZZ
@given(st.data())
def test_checkpoints(data: st.DataObject) -> None:
    with folder() as root:
        path = root / "a.pt"
        write_torch(data.draw, path, STORED)
        refused(lambda: Checkpoint(path, {"recipe": 1}).read())
        before = path.read_bytes()
        if refused(lambda: training(path) or True) is None:
            assert path.read_bytes() == before, "a refused checkpoint is overwritten"


def saved_lap() -> tuple[bytes, Any, dict[str, Tensor]]:
    torch.manual_seed(0)
    lap = interp_core.create("test_resnet", num_classes=3)
    with folder() as root:
        lap.save_pretrained(root)
        description = json.loads((root / "config.json").read_text())
        weights = {name: value.contiguous() for name, value in lap.state_dict().items()}
        return (root / "model.safetensors").read_bytes(), description, weights


SAVED = saved_lap()


@FUZZ
@given(st.data())
def test_saved_models(data: st.DataObject) -> None:
    content, description, weights = SAVED
    with folder() as root:
        (root / "a.safetensors").write_bytes(content)
        (root / "a.json").write_text(json.dumps(description))
        if data.draw(st.integers(0, 2)):
            (root / "a.json").write_bytes(as_text(data.draw, description))
        else:
            write_safetensors(data.draw, root / "a.safetensors", weights)
        lap = refused(lambda: interp_core.load(root / "a"))
        assert lap is None or set(lap.state_dict()) >= set(weights)


def cell(key: str) -> pd.DataFrame:
    columns = {"model": "lap", "explainer": "random", "metric": "auc", "seed": 0, "degenerate": False}
    return pd.DataFrame({**columns, "image_id": [f"{key}0", f"{key}1"], "value": [0.5, float("nan")]})


def odd_column(draw: Any, name: str, table: pa.Table) -> pa.Table:
    """Replace, remove or double a column."""
    place = table.column_names.index(name)
    how = draw(st.sampled_from(["remove", "odd", "twice"]))
    if how == "twice":
        return table.append_column(name, table[name])
    table = table.remove_column(place)
    values = st.sampled_from(["x", 2**62, float("inf"), None, b"\xff", True, [1], {"a": 1}])
    return table if how == "remove" else table.append_column(name, pa.array([draw(values)] * len(table)))


def write_parquet(draw: Any, path: Path) -> None:
    """Change a table of scores."""
    if draw(st.booleans()):
        path.write_bytes(damaged(draw, path.read_bytes()))
        return
    table = pq.read_table(path)
    for _ in range(draw(st.integers(0, 2))):
        table = odd_column(draw, draw(st.sampled_from(table.column_names)), table)
    schema = draw(st.sampled_from([b"1", b"", b"x", b"-1", b"1.5", str(SCHEMA + 1).encode(), b"9" * 30, b"\xff"]))
    rows = table.slice(0, draw(st.integers(0, len(table))))
    pq.write_table(rows.replace_schema_metadata({b"schema": schema}), path)


def write_npz(draw: Any, path: Path) -> None:
    """Change a file of arrays."""
    if draw(st.booleans()):
        path.write_bytes(damaged(draw, path.read_bytes()))
        return
    with np.load(path) as file:
        arrays = changed_arrays(draw, dict(file))
    with path.open("wb") as stream:
        np.savez(stream, **arrays)


def stored_run(root: Path, *, packed: bool) -> Store:
    store = Store(root)
    for key in "abc":
        store.write_cell(key, cell(key), {})
        store.write_maps(key, np.ones((2, 1, 4, 4), np.float32), half=key == "b")
    store.write_failure("d", Problem(where="d", what="it failed"))
    store.write_gallery(gallery(2, 8))
    store.write_record(RunRecord.model_validate({**meta(), "cells": list("abc")}))
    if packed:
        pack(open_location(root))
    return store


@FUZZ
@given(st.data())
def test_runs(data: st.DataObject) -> None:
    packed = data.draw(st.booleans())
    with folder() as root:
        stored_run(root, packed=packed)
        cells = "cells.parquet" if packed else "cells/b.parquet"
        name = data.draw(st.sampled_from([cells, "run.json", "maps/b.npz", "failures/d.json", "gallery.npz"]))
        change = {".parquet": write_parquet, ".npz": write_npz}.get(Path(name).suffix)
        if data.draw(st.integers(0, 9)) == 0:
            (root / name).unlink()
        elif change:
            change(data.draw, root / name)
        else:
            (root / name).write_bytes(as_text(data.draw, json.loads((root / name).read_text())))
        run = refused(lambda: read_run(root))
        if run is not None and name != "run.json":
            words = " ".join(f"{problem.where} {problem.what}" for problem in run.record.problems)
            there = (root / name).exists()
            assert run.gallery is not None or "gallery.npz" in words or not there, "the gallery is lost"
            found = {image[0] for image in run.all_scores["image_id"] if image}
            assert found == set("abc") or name == cells, "sound cells are lost"
            if run.gallery is not None:
                for model, explainer in run.gallery.maps:
                    for position in run.gallery.positions(model, explainer):
                        assert run.gallery.map_of(model, explainer, position).shape == run.gallery.masks.shape[1:]
        again = Store(root)
        there = (root / name).exists()
        refused(lambda: [again.read_cell(key) for key in "abc"])
        refused(lambda: again.read_failure("d"))
        maps = refused(lambda: [again.read_maps(key) for key in "abc"])
        assert all(m is None or (m.shape == (len(m), 1, *m.shape[2:]) and m.dtype == np.float32) for m in maps or ())
        if there and not (root / name).exists():
            assert again.set_aside, f"{name} is set aside without a word"


DIAGNOSIS = Diagnosis(
    network={"name": "a"}, data={"name": "b"}, classes=("benign", "malignant"), explainer="lap",
    findings=(finding(region="a", effects=(effect(),)), finding(2)),
)  # fmt: skip


@FUZZ
@given(st.data())
def test_findings(data: st.DataObject) -> None:
    with folder() as root:
        path = write_findings(root, DIAGNOSIS)
        content = json.loads(path.read_text())
        path.write_bytes(as_text(data.draw, content))
        result = refused(lambda: read_findings(root))
        if result is not None:
            refused(lambda: write_findings(root, result))
            assert result.version <= DIAGNOSIS.version


@FUZZ
@given(st.data())
def test_regions(data: st.DataObject) -> None:
    fixed = FixedRegion(np.eye(4, dtype=bool))
    with folder() as root:
        path = save_regions(root, {"a": RED_CELLS, "b": fixed, "c": UnionRegion((RED_CELLS, fixed))})
        write_npz(data.draw, path)
        for name in "abc":
            region = refused(lambda name=name: load_region(root, name))  # type: ignore[misc]
            masks = None if region is None else refused(lambda region=region: region.masks(SUBJECT, IMAGES.images))  # type: ignore[misc]
            assert masks is None or masks.shape == (2, 1, *IMAGES.images.shape[2:])
