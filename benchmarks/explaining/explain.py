"""Explain images of files with a network, and write what people look at or compute with.

    png    an overlay for each image and class, a sheet of the first images, and a page with all of them
    npy    the maps in single precision, at the size at which the network sees an image
    json   classes, logits, probabilities, and boxes in pixels of the image

An image that cannot be read is named and left out. Images are read and explained batch by batch, so that memory does
not grow with their number.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.explaining.class_names import check_names, number_name
from benchmarks.explaining.draw import TEXT, draw_overlay, to_display
from benchmarks.explaining.formats import Format
from benchmarks.explaining.images import ImageFile, list_images
from benchmarks.explaining.network import NetworkSource, OpenNetwork, open_network, source_from
from benchmarks.explaining.page import PageImage, thumbnail, write_page
from benchmarks.explaining.rows import ClassRow, ImageRow, broad_regions, map_of, rows_of
from benchmarks.store.atomic import write_atomically
from interp_core.datasets.files.images import UnreadableImage, decode_image
from interp_core.datasets.files.resize import Geometry, geometry_of
from interp_core.lap.explanation import Explanation
from interp_core.pictures import sheet
from interp_core.pictures.overlay import file_names
from interp_core.pictures.png import encode_png

SHEET_ROWS, PAGE_IMAGES = 8, 200
SHEET, TABLE = "sheet.png", "explanations.json"
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class ExplainOptions:
    """Settings of explanations.

    Attributes:
        top: number of classes explained, the most likely ones first.
        steps: gradient steps on each image that improve its map; see `LapModel.explain`.
        formats: kinds of files.
        regions: largest number of boxes.
        share: of a map's positive part that the boxes' pixels hold.
        batch_size: images of a pass.
    """

    top: int = 1
    steps: int = 0
    formats: tuple[Format, ...] = (Format.png,)
    regions: int = 3
    share: float = 0.5
    batch_size: int = 16


@dataclass
class ExplainReport:
    """What was explained and written.

    Attributes:
        folder: of the files.
        state: of the map: "fitted", "ready-made" or "as attached".
        images: explanations, in the order of the images.
        unreadable: reasons by name of the images that were left out.
        files: files that stand for all images: sheet, page, table.
    """

    folder: Path
    state: str
    images: list[ImageRow] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class _Loaded:
    """An image as the user gave it, and as the network sees it."""

    file: ImageFile
    stem: str
    image: Image.Image
    geometry: Geometry
    pixels: np.ndarray


def explain_images(
    model: str | Path | NetworkSource | OpenNetwork,
    images: Sequence[str | Path],
    output: str | Path,
    *,
    classes: Sequence[str] = (),
    options: ExplainOptions | None = None,
    report: Report | None = None,
    **source: Any,
) -> ExplainReport:
    """Explain images and write the explanations to a folder.

    Args:
        model: folder of a fit, timm's name, or all about the network.
        images: files, and folders with images at any depth.
        output: folder, created if missing.
        classes: names of the K classes; by default those that the fit kept.
        options: of the explanations.
        report: called with the number of images done and of all.
        source: fields of `NetworkSource`, such as `pretrained`, where `model` is a text.

    Returns:
        What was explained and written.

    Raises:
        InterpError: the network cannot be opened, there are no images, or the names are not one a class.
    """
    options, folder = options or ExplainOptions(), Path(output)
    files = list_images(images)
    opened = model if isinstance(model, OpenNetwork) else open_network(_source_of(model, source))
    names = check_names(classes or opened.classes, opened.lap.num_classes)
    result, drawn = ExplainReport(folder, opened.state), _Drawn()
    for done, batch in _read_batches(files, opened, options.batch_size, result.unreadable):
        if batch:
            result.images += _explain_batch(opened, batch, names, options, folder, drawn)
        if report is not None:
            report(done, len(files))
    if result.images:
        result.files += _write_overview(result, opened, drawn, options)
    return result


@dataclass
class _Drawn:
    """Pictures of the first images, for the sheet and the page."""

    panels: list[sheet.Panel] = field(default_factory=list)
    page: list[PageImage] = field(default_factory=list)


def _source_of(model: str | Path | NetworkSource, fields: dict[str, Any]) -> NetworkSource:
    if isinstance(model, NetworkSource):
        return model
    return source_from(str(model), fields)


def _read_batches(
    files: Sequence[ImageFile], opened: OpenNetwork, size: int, unreadable: dict[str, str]
) -> Iterator[tuple[int, list[_Loaded]]]:
    """Yield the number of images read so far, and the images of a batch that can be read."""
    stems = file_names([Path(file.id).with_suffix("").as_posix() for file in files])
    for first in range(0, len(files), size):
        batch = []
        for file, stem in zip(files[first : first + size], stems[first : first + size], strict=True):
            try:
                batch.append(_load(file, stem, opened))
            except UnreadableImage as error:
                unreadable[file.id] = error.reason
        yield min(first + size, len(files)), batch


def _load(file: ImageFile, stem: str, opened: OpenNetwork) -> _Loaded:
    view = opened.view.preprocessing
    image = decode_image(file.path, most_pixels=view.most_pixels, upright=view.upright)
    geometry = geometry_of(image.size, view.size, view.resize, view.crop_pct)
    return _Loaded(file, stem, image, geometry, geometry.resize_image(image, view.interpolation))


def _explain_batch(
    opened: OpenNetwork,
    batch: Sequence[_Loaded],
    names: Sequence[str],
    options: ExplainOptions,
    folder: Path,
    drawn: _Drawn,
) -> list[ImageRow]:
    """Explain a batch for its most likely classes, and write its files."""
    lap = opened.lap
    device = next(lap.parameters()).device
    pixels = torch.from_numpy(np.stack([loaded.pixels for loaded in batch]))
    inputs = opened.view.normalise(pixels, lap.info.in_channels).to(device)
    first = lap.explain(inputs, steps=options.steps)
    ranks = first.logits.topk(min(options.top, lap.num_classes), dim=1).indices
    explanations = [first, *(lap.explain(inputs, rank, steps=options.steps) for rank in ranks.T[1:])]
    geometries = [loaded.geometry for loaded in batch]
    tables = [rows_of(e, geometries, names, options.share, options.regions) for e in explanations]
    rows = []
    for i, loaded in enumerate(batch):
        classes = tuple(
            _write_class(loaded, table[i], map_of(explanation)[i, 0].numpy(force=True), rank, options, folder, drawn)
            for rank, (table, explanation) in enumerate(zip(tables, explanations, strict=True))
        )
        if Format.png in options.formats and len(drawn.panels) < SHEET_ROWS:
            drawn.panels.append(_panel(loaded, first, i, classes[0], options))
        rows.append(ImageRow(str(loaded.file.path), loaded.image.size, loaded.geometry.part, classes))
    return rows


def _write_class(
    loaded: _Loaded,
    row: ClassRow,
    values: np.ndarray,
    rank: int,
    options: ExplainOptions,
    folder: Path,
    drawn: _Drawn,
) -> ClassRow:
    """Write the files of one class of an image, and return its row with their names."""
    stem = loaded.stem if options.top == 1 else f"{loaded.stem}-{rank + 1}"
    fields = asdict(row)
    if Format.npy in options.formats:
        buffer = io.BytesIO()
        np.save(buffer, values.astype(np.float32))
        fields["map"] = write_atomically(folder / f"{stem}.npy", buffer.getvalue()).name
    if Format.png in options.formats:
        caption = f"{row.name} {row.probability:.3f}"
        boxes = [tuple(entry["box"]) for entry in row.boxes]
        picture = draw_overlay(loaded.image, values, loaded.geometry, boxes, caption)
        fields["picture"] = write_atomically(folder / f"{stem}.png", encode_png(picture)).name
        if len(drawn.page) < PAGE_IMAGES or rank:
            _add_to_page(drawn, loaded, row, picture, rank)
    return ClassRow(**fields)


def _add_to_page(drawn: _Drawn, loaded: _Loaded, row: ClassRow, picture: Image.Image, rank: int) -> None:
    if not rank:
        drawn.page.append(PageImage(loaded.file.id, loaded.image.size, thumbnail(to_display(loaded.image)), []))
    if drawn.page[-1].name == loaded.file.id:
        without_caption = picture.crop((0, 0, picture.width, picture.height - TEXT))
        drawn.page[-1].classes.append((row.name, row.probability, thumbnail(without_caption), len(row.boxes)))


def _panel(loaded: _Loaded, explanation: Explanation, i: int, row: ClassRow, options: ExplainOptions) -> sheet.Panel:
    """Return the row of an image in the sheet: the map and all its levels, as the network saw the image."""
    values = map_of(explanation)[i, 0].float().numpy(force=True)
    regions = broad_regions(map_of(explanation)[i : i + 1], options.share, options.regions)[0]
    name = None if row.name == number_name(row.index) else row.name
    title = f"{loaded.file.id}: {sheet.caption(row.index, row.logit, row.probability, name)}"
    grids = tuple(
        (level.name, level.contributions[i, 0].float().numpy(force=True)) for level in reversed(explanation.levels)
    )
    return sheet.Panel(
        title, loaded.pixels.transpose(1, 2, 0) / 255, values, grids, float(explanation.bias[i]), (), tuple(regions)
    )


def _write_overview(result: ExplainReport, opened: OpenNetwork, drawn: _Drawn, options: ExplainOptions) -> list[Path]:
    """Write what stands for all images: sheet, page and table."""
    paths, folder = [], result.folder
    if Format.png in options.formats:
        figure = sheet.sheet(drawn.panels, rows=SHEET_ROWS, total=len(result.images))
        paths.append(write_atomically(folder / SHEET, encode_png(figure)))
        paths.append(write_page(folder, opened, drawn.page, len(result.images), result.unreadable, options.steps))
    if Format.json in options.formats:
        table = {
            "network": opened.name,
            "map": result.state,
            "steps": options.steps,
            "images": [asdict(row) for row in result.images],
            "unreadable": result.unreadable,
        }
        text = json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False)
        paths.append(write_atomically(folder / TABLE, text + "\n"))
    return paths
