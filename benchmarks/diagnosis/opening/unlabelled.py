"""Images without labels: a folder in which no layout finds a class.

All images below the folder are taken, whatever their sub-folders, without those that are masks. Limits: masks and boxes
are not read as evidence, and there are no splits.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from interp_core.datasets.files.dataset import FileDataset
from interp_core.datasets.files.image_set import FileImageSet, Item
from interp_core.datasets.files.paths import MissingFile, relative_id, walk_images
from interp_core.datasets.folder import Folder
from interp_core.datasets.formats.class_folders import find_class_folders
from interp_core.datasets.formats.mask_folders import masks_beside
from interp_core.datasets.records import Finding, Index, Record, SplitName

NO_LABEL = -1


class UnlabelledFolder(FileDataset):
    """A folder of images without labels.

    Fields:
        reason: why no labels were found.
    """

    name: ClassVar[str] = Folder.name
    title: ClassVar[str] = "Folder without labels"

    reason: str = ""

    def index(self) -> Index:
        """List the images; the one class stands for none."""
        findings: list[Finding] = []
        mask_folders = find_class_folders(self.root).masks
        paths = [
            path
            for path in walk_images(self.root, findings)
            if not any(path.is_relative_to(folder) for folder in mask_folders)
        ]
        masks = masks_beside(paths)
        records = tuple(
            Record(f"{self.name}/{relative_id(path, self.root)}", path, (0,)) for path in paths if path not in masks
        )
        return Index(("",), {"train": (), "val": records, "test": ()}, findings=tuple(findings))

    @property
    def classes(self) -> tuple[str, ...]:
        """No names: only the network knows its classes."""
        return ()

    def load(self, split: SplitName = "val") -> FileImageSet:
        """Return the images, which are all in "val", with `NO_LABEL` as targets.

        Raises:
            InterpError: another split is asked for.
        """
        images = super().load(split)
        items = [Item(item.id, item.image, item.record, None) for item in images.items]
        return self._image_set(items, np.full(len(items), NO_LABEL))


def without_labels(folder: Folder, error: MissingFile) -> UnlabelledFolder:
    """Return the images of a folder in which no label was found.

    Args:
        folder: the folder, with its parameters.
        error: why no label was found.

    Raises:
        MissingFile: the same, where a layout or a table was meant, or there are no images.
    """
    is_meant = folder.layout != "auto" or (folder.root / folder.table).exists() or not folder.root.is_dir()
    if is_meant or next(walk_images(folder.root, []), None) is None:
        raise error
    fields = {name: getattr(folder, name) for name in FileDataset.model_fields if name not in ("train", "val", "test")}
    return UnlabelledFolder(**fields, reason=str(error))
