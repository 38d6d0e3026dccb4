"""CelebA's layouts, its regions, and the real first faces where they are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import ATTRIBUTES, LANDMARKS, celeba, mask, picture, write
from helpers.shared import ROOT, SHARED
from hypothesis import given
from hypothesis import strategies as st

from interp_core.datasets import CelebA, MaskFile, Record
from interp_core.datasets.celeba.face_regions import EXACT, FACE_PARTS, PATCHES, face_boxes, has_exact_parts
from interp_core.errors import InterpError, UnknownNameError

FACES = SHARED / "data" / "celeba32"


def all_of(dataset: CelebA) -> dict[str, Record]:
    return {record.path.stem: record for records in dataset.checked_index.records.values() for record in records}


@pytest.mark.parametrize("official", [True, False])
def test_attributes_and_official_splits(tmp_path: Path, official: bool) -> None:
    dataset = CelebA(root=celeba(tmp_path, 9, official=official))
    assert dataset.multi_label
    assert dataset.classes == ATTRIBUTES
    assert {split: len(members) for split, members in dataset.checked_index.records.items()} == {
        "train": 3,
        "val": 3,
        "test": 3,
    }
    assert [record.path.stem for record in dataset.checked_index.records["val"]] == ["000004", "000005", "000006"]
    # The sixth image has the attributes of the bits of 5.
    assert all_of(dataset)["000006"].targets == (0, 2)
    assert not [finding for finding in dataset.findings if finding.kind != "missing file"]


def test_attributes_can_be_picked_and_ordered(tmp_path: Path) -> None:
    dataset = CelebA(root=celeba(tmp_path), attributes=("Smiling", "Eyeglasses"))
    assert dataset.classes == ("Smiling", "Eyeglasses")
    assert all_of(dataset)["000002"].targets == (1,) or all_of(dataset)["000002"].targets == (0,)
    assert {stem: record.targets for stem, record in all_of(dataset).items()} == {
        "000001": (), "000002": (1,), "000003": (0,), "000004": (0, 1), "000005": (), "000006": (1,),
    }  # fmt: skip
    with pytest.raises(UnknownNameError, match="did you mean Smiling"):
        _ = CelebA(root=tmp_path, attributes=("Smilling",)).checked_index


def test_the_tables_of_its_copies_serve_too(tmp_path: Path) -> None:
    first = all_of(CelebA(root=celeba(tmp_path / "a")))
    root = celeba(tmp_path / "b", official=False)
    for name, header in (("list_attr_celeba", 2), ("list_eval_partition", 0), ("list_landmarks_align_celeba", 2)):
        lines = (root / f"{name}.txt").read_text().splitlines()
        columns = ["image_id", *(lines[1].split() if header else ["partition"])]
        rows = [",".join(columns), *(",".join(line.split()) for line in lines[header:])]
        write(root / f"{name}.csv", "\r\n".join(rows))
        (root / f"{name}.txt").unlink()
    (root / "img_align_celeba").rename(root / "inner")
    (root / "img_align_celeba").mkdir()
    (root / "inner").rename(root / "img_align_celeba" / "img_align_celeba")
    second = all_of(CelebA(root=root))
    assert {s: (r.targets, r.boxes) for s, r in first.items()} == {s: (r.targets, r.boxes) for s, r in second.items()}


def test_each_attribute_an_image_has_is_marked_where_it_is_seen(tmp_path: Path) -> None:
    dataset = CelebA(root=celeba(tmp_path, 16))
    everything = all_of(dataset)["000016"]
    assert everything.targets == (0, 1, 2, 3)
    boxes_by_target = {target: [box for box in everything.boxes if box.target == target] for target in range(4)}
    eyes, nose = (LANDMARKS[0], LANDMARKS[2]), LANDMARKS[5]
    (glasses,) = boxes_by_target[0]
    assert glasses.x0 < min(eyes) < max(eyes) < glasses.x1
    assert glasses.y1 < nose
    assert not boxes_by_target[2]  # Blurry has no place
    assert len(boxes_by_target[3]) == 2  # one for each ear
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 178 and box.y1 <= 218 for box in everything.boxes)


def test_without_partition_the_images_are_divided_and_that_is_said(tmp_path: Path) -> None:
    root = celeba(tmp_path, 30, official=False)
    (root / "list_eval_partition.txt").unlink()
    dataset = CelebA(root=root)
    assert {split: len(members) for split, members in dataset.checked_index.records.items()} == {
        "train": 21,
        "val": 3,
        "test": 6,
    }
    assert [finding.where for finding in dataset.findings] == ["list_eval_partition.txt"]


def test_nobody_is_in_two_splits_where_it_is_known_who_is_who(tmp_path: Path) -> None:
    root = celeba(tmp_path, 30, official=False)
    (root / "list_eval_partition.txt").unlink()
    write(root / "identity_CelebA.txt", "\n".join(f"{i + 1:06d}.jpg {i // 3}" for i in range(30)))
    people = [{record.group for record in records} for records in CelebA(root=root).checked_index.records.values()]
    assert sum(map(len, people)) == len(set.union(*people)) == 10


@pytest.mark.parametrize("name", ["Anno/list_attr_celeba.txt", "Img/img_align_celeba"])
def test_what_is_missing_is_called_as_on_its_page(tmp_path: Path, name: str) -> None:
    path = celeba(tmp_path) / name
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(InterpError, match=r"Anno/list_attr_celeba|Align&Cropped"):
        _ = CelebA(root=tmp_path).checked_index


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    root = celeba(tmp_path)
    table = root / "Anno/list_attr_celeba.txt"
    lines = table.read_text().splitlines()
    lines[2] = lines[2].replace("-1", "5", 1)
    lines += [lines[3], "000077.jpg " + "1 " * 4]
    write(table, "\n".join(lines))
    picture(root / "Img/img_align_celeba/000099.jpg")
    findings = {(finding.kind, finding.where) for finding in CelebA(root=root).findings}
    assert ("bad label", "attributes, row 1") in findings
    assert ("duplicate row", "list_attr_celeba.txt, row 7") in findings
    assert ("count", "list_attr_celeba.txt") in findings
    assert {("label without image", "000077"), ("image without label", "000099.jpg")} <= findings


def test_part_masks_of_celebamask_hq(tmp_path: Path) -> None:
    names = "\n".join(f"{i}.jpg 1 1 -1 1" for i in range(3))
    write(tmp_path / "CelebAMask-HQ-attribute-anno.txt", f"3\n{' '.join(ATTRIBUTES)}\n{names}\n")
    for i in range(3):
        picture(tmp_path / f"CelebA-HQ-img/{i}.jpg", (64, 64))
    glasses = mask(tmp_path / "CelebAMask-HQ-mask-anno/0/00001_eye_g.png", (32, 32))
    lips = mask(tmp_path / "CelebAMask-HQ-mask-anno/0/00001_u_lip.png", (32, 32))
    mapping = [f"{i} {90 + i} {90 + i:06d}.jpg" for i in range(3)]
    write(tmp_path / "CelebA-HQ-to-CelebA-mapping.txt", "\n".join(["idx orig_idx orig_file", *mapping]))
    write(tmp_path / "list_eval_partition.txt", "".join(f"{90 + i:06d}.jpg {i}\n" for i in range(3)))
    dataset = CelebA(root=tmp_path, images="hq")
    assert [record.path.stem for record in dataset.checked_index.records["val"]] == ["1"]
    assert all_of(dataset)["1"].masks == (MaskFile(glasses, None, 0), MaskFile(lips, None, 1))
    assert not all_of(dataset)["2"].masks


def test_faces_in_the_wild_have_boxes_in_place_of_landmarks(tmp_path: Path) -> None:
    root = celeba(tmp_path, official=False)
    for i in range(6):
        picture(root / f"img_celeba/{i + 1:06d}.jpg", (400, 300))
    write(root / "list_bbox_celeba.txt", "6\nimage_id x_1 y_1 width height\n" + "\n".join(
        f"{i + 1:06d}.jpg 95 71 226 213" for i in range(6)
    ))  # fmt: skip
    dataset = CelebA(root=root, images="wild", attributes=("Smiling",))
    boxes = all_of(dataset)["000003"].boxes
    assert boxes
    assert all(box.x0 >= 95 and box.x1 <= 95 + 226 for box in boxes)


# Regions


def test_every_attribute_has_a_region_and_every_region_its_places() -> None:
    assert len(FACE_PARTS) == 40
    assert [name for name, region in FACE_PARTS.items() if not region.places] == ["Blurry"]
    assert {place for region in FACE_PARTS.values() for place in region.places} == set(PATCHES)
    parts = {part for region in FACE_PARTS.values() for part in region.parts}
    assert parts - EXACT == {"skin", "cloth"}


number = st.floats(-1e4, 1e4)


@given(st.lists(st.one_of(number, st.just(float("nan"))), min_size=10, max_size=10))
def test_places_lie_in_the_picture_whatever_the_landmarks(landmarks: list[float]) -> None:
    for boxes in face_boxes(landmarks, (178, 218)).values():
        for x0, y0, x1, y1 in boxes:
            assert 0 <= x0 < x1 <= 178
            assert 0 <= y0 < y1 <= 218


@given(st.integers(0, 40), st.integers(0, 40))
def test_places_move_with_the_face(dx: int, dy: int) -> None:
    shifted = [value + (dx, dy)[i % 2] for i, value in enumerate(LANDMARKS)]
    before, after = face_boxes([v + 200 for v in LANDMARKS]), face_boxes([v + 200 for v in shifted])
    for name, boxes in before.items():
        shifted = [(x0 + dx, y0 + dy, x1 + dx, y1 + dy) for x0, y0, x1, y1 in boxes]
        np.testing.assert_allclose(shifted, after[name], atol=1)  # halves are rounded to even


@pytest.mark.slow
@pytest.mark.skipif(not FACES.is_dir(), reason=f"{FACES} is not there")
def test_real_faces() -> None:
    dataset = CelebA(root=FACES, image_size=64)
    assert len(all_of(dataset)) == 32
    assert len(dataset.classes) == 40
    named = {dataset.classes[target] for target in all_of(dataset)["000001"].targets}
    assert {"Arched_Eyebrows", "Attractive", "Smiling", "Young"} <= named
    explained = dataset.load_explained("train")
    part = explained.take(np.arange(8))
    assert len(part) == 8
    assert not explained.unreadable


def test_the_documented_places_are_those_used() -> None:
    text = (ROOT / "docs" / "data.md").read_text()
    for name, region in FACE_PARTS.items():
        parts = ", ".join(region.parts) if has_exact_parts(region) else "none"
        assert f"| {name} | {', '.join(region.places) or 'none'} | {parts} |" in text
