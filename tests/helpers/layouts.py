"""Write tiny copies of the layouts that data sets are shipped in."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TENCH, GOLDFISH, SHARK = "n01440764", "n01443537", "n01484850"
XML = (
    "<annotation><filename>{stem}</filename><size><width>{w}</width><height>{h}</height><depth>3</depth></size>{objects}"
    "</annotation>"
)
OBJECT = (
    "<object><name>{0}</name><bndbox><xmin>{1}</xmin><ymin>{2}</ymin><xmax>{3}</xmax><ymax>{4}</ymax></bndbox></object>"
)
# Shades of two classes in turn, so that a network learns them quickly.
SHADES = ((7, 1, 1), (1, 1, 7))
ATTRIBUTES = ("Eyeglasses", "Smiling", "Blurry", "Wearing_Earrings")
LANDMARKS = (69, 109, 106, 113, 77, 142, 73, 152, 108, 154)


def picture(
    path: Path, size: tuple[int, int] = (32, 24), seed: int = 0, shade: tuple[int, int, int] = (0, 0, 0)
) -> Path:
    """Write a noise image of size (width, height); `shade`, in 0..7 per channel, makes it brighter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    pixels = noise // 8 + 32 * np.array(shade, np.uint8) if any(shade) else noise
    Image.fromarray(pixels).save(path)
    return path


def mask(path: Path, size: tuple[int, int] = (32, 24), value: int = 255) -> Path:
    """Write a mask whose left half is marked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0]), np.uint8)
    pixels[:, : size[0] // 2] = value
    Image.fromarray(pixels).save(path)
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def voc(path: Path, *objects: tuple[Any, ...], size: tuple[int, int] = (32, 24)) -> Path:
    """Write an annotation file with objects (name, xmin, ymin, xmax, ymax)."""
    inner = "".join(OBJECT.format(*entry) for entry in objects)
    return write(path, XML.format(stem=path.stem, w=size[0], h=size[1], objects=inner))


def imagenet_kaggle(root: Path, wnids: Sequence[str] = (TENCH, GOLDFISH), count: int = 4, xml: bool = True) -> Path:
    """Write ILSVRC as Kaggle ships it: training images by class, validation images flat, boxes as XML and as tables."""
    data, notes = root / "ILSVRC/Data/CLS-LOC", root / "ILSVRC/Annotations/CLS-LOC"
    rows: dict[str, list[str]] = {"train": ["ImageId,PredictionString"], "val": ["ImageId,PredictionString"]}
    number = 0
    for target, wnid in enumerate(wnids):
        for i in range(count):
            number += 1
            stem = f"ILSVRC2012_val_{number:08d}"
            picture(data / "val" / f"{stem}.JPEG", seed=number, shade=SHADES[target % 2])
            rows["val"].append(f"{stem},{wnid} 2 3 20 22 ")
            if xml:
                voc(notes / "val" / f"{stem}.xml", (wnid, 2, 3, 20, 22))
            picture(data / "train" / wnid / f"{wnid}_{i}.JPEG", seed=number, shade=SHADES[target % 2])
            rows["train"].append(f"{wnid}_{i},{wnid} 1 1 9 9 ")
    for name, lines in rows.items():
        write(root / f"LOC_{name}_solution.csv", "\n".join(lines))
    return root


def imagenet_folders(root: Path, wnids: Sequence[str] = (TENCH, GOLDFISH), count: int = 3) -> Path:
    """Write the layout of Imagenette, which is that of ImageNet after the usual script."""
    for part in ("train", "val"):
        for target, wnid in enumerate(wnids):
            for i in range(count):
                picture(root / part / wnid / f"{wnid}_{part}_{i}.JPEG", seed=i, shade=SHADES[target % 2])
    return root


def tiny_imagenet(root: Path, wnids: Sequence[str] = (GOLDFISH, SHARK), count: int = 3) -> Path:
    """Write tiny-imagenet-200: boxes beside the classes, validation images flat with a table."""
    rows = []
    for wnid in wnids:
        names = [f"{wnid}_{i}.JPEG" for i in range(count)]
        for name in names:
            picture(root / "train" / wnid / "images" / name, (64, 64))
        write(root / "train" / wnid / f"{wnid}_boxes.txt", "\n".join(f"{name}\t0\t10\t63\t58" for name in names))
        name = f"val_{len(rows)}.JPEG"
        picture(root / "val" / "images" / name, (64, 64))
        rows.append(f"{name}\t{wnid}\t1\t2\t30\t40")
    write(root / "val" / "val_annotations.txt", "\n".join(rows) + "\n")
    return root


def celeba(root: Path, count: int = 6, official: bool = True) -> Path:
    """Write CelebA with four of its attributes; image i has those whose bit is set in i."""
    names = [f"{i + 1:06d}.jpg" for i in range(count)]
    home, anno = (root / "Img", root / "Anno/") if official else (root, root)
    for i, name in enumerate(names):
        shade = (1 + 6 * (i & 1), 1 + 3 * (i & 2), 1)
        picture(home / "img_align_celeba" / name, (178, 218), i, shade)
    signs = [[1 if i >> k & 1 else -1 for k in range(4)] for i in range(count)]
    body = [f"{name} {' '.join(f'{s:2d}' for s in row)}" for name, row in zip(names, signs, strict=True)]
    write(anno / "list_attr_celeba.txt", "\n".join([str(count), " ".join(ATTRIBUTES), *body]) + "\n")
    header = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    points = " ".join(map(str, LANDMARKS))
    write(anno / "list_landmarks_align_celeba.txt", "\n".join([str(count), header, *(f"{n} {points}" for n in names)]))
    parts = [f"{name} {min(i * 3 // count, 2)}" for i, name in enumerate(names)]
    write((root / "Eval" if official else root) / "list_eval_partition.txt", "\n".join(parts) + "\n")
    return root


def dicom(path: Path, size: tuple[int, int] = (32, 24), seed: int = 0, shade: int = 0) -> Path:
    """Write an uncompressed DICOM file of 8-bit noise; `shade`, in 0..7, makes it brighter."""
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(seed)])
    content = pydicom.Dataset()
    content.file_meta = meta
    content.PatientName = "<script>alert(1)</script>"
    content.Rows, content.Columns = size[1], size[0]
    content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
    content.BitsAllocated = content.BitsStored = 8
    content.HighBit, content.PixelRepresentation = 7, 0
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0]), dtype=np.uint8)
    pixels = noise // 8 + np.uint8(32 * shade)
    content.PixelData = pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    content.save_as(path, enforce_file_format=True)
    return path


def rsna(root: Path, count: int = 10, ending: str = ".dcm") -> Path:
    """Write RSNA's challenge: every third patient has two boxes, the others are normal or not in turn."""
    labels, details = ["patientId,x,y,width,height,Target"], ["patientId,class"]
    for i in range(count):
        patient = f"p{i:03d}"
        path = root / "stage_2_train_images" / f"{patient}{ending}"
        dicom(path, seed=i, shade=6 * (i % 3 == 0)) if ending == ".dcm" else picture(path, seed=i)
        if i % 3 == 0:
            labels += [f"{patient},2,3,10,5,1", f"{patient},16.0,3.5,8.0,10.0,1"]
            details += [f"{patient},Lung Opacity"] * 2
        else:
            labels.append(f"{patient},,,,,0")
            details.append(f"{patient},{'Normal' if i % 2 else 'No Lung Opacity / Not Normal'}")
    write(root / "stage_2_train_labels.csv", "\n".join(labels) + "\n")
    write(root / "stage_2_detailed_class_info.csv", "\n".join(details) + "\n")
    return root


def class_folders(root: Path, classes: Sequence[str] = ("cat", "dog"), count: int = 10, split: str = "") -> Path:
    """Write a folder for each class."""
    for target, name in enumerate(classes):
        for i in range(count):
            path = root / split / name / f"{name}{split}{i}.png"
            picture(path, seed=100 * target + i, shade=SHADES[target % 2])
    return root


def coco(root: Path, split: str, count: int = 4) -> Path:
    """Write COCO's layout: images of a split in a folder, annotations beside; each shows a cat, odd ones also a dog."""
    entries = []
    for i in range(count):
        picture(root / f"{split}2017" / f"{split}{i:04d}.jpg", seed=i)
        entries.append({"image_id": i, "category_id": 7, "bbox": [1, 2, 10, 8], "iscrowd": 0})
        if i % 2:
            entries.append({"image_id": i, "category_id": 3, "bbox": [20, 4, 50, 8], "iscrowd": 0})
    images = [{"id": i, "file_name": f"{split}{i:04d}.jpg", "width": 32, "height": 24} for i in range(count)]
    content = {
        "images": images, "annotations": entries, "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    }  # fmt: skip
    write(root / "annotations" / f"instances_{split}2017.json", json.dumps(content))
    return root


def devkit(root: Path, count: int = 6) -> Path:
    """Write VOC2012: each image shows two cats, or a cat and a dog; half of them have masks."""
    stems = [f"2007_{i:06d}" for i in range(count)]
    for i, stem in enumerate(stems):
        picture(root / "JPEGImages" / f"{stem}.jpg", seed=i)
        voc(root / "Annotations" / f"{stem}.xml", ("cat", 1, 1, 8, 8), (("cat", "dog")[i % 2], 9, 9, 32, 24))
        if i < count // 2:
            mask(root / "SegmentationClass" / f"{stem}.png", value=8)
    write(root / "ImageSets/Main/train.txt", "\n".join(stems[: count // 2]) + "\n")
    write(root / "ImageSets/Main/val.txt", "\n".join(stems[count // 2 :]) + "\n")
    return root


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()
