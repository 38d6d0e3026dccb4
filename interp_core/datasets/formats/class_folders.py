"""Find the folders of classes, and their splits, in a folder of images.

Splits may stand above the classes (train/cat) or below them (cat/train), both optionally inside a folder `images` or
inside one folder around everything. A name decides only together with the content: a folder of masks, boxes or a split
counts as such if its files say so, and otherwise as a class.
Known limits: folders train and test that hold images directly may be classes or splits without labels; they are classes
beside a class of another name or where the configuration says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from interp_core.datasets.files.paths import list_folders, list_images, relative_id, walk_images
from interp_core.datasets.files.split_words import splits_of_folders
from interp_core.datasets.formats.mask_folders import FURTHER_MASK_FOLDERS, MASK_FOLDERS, is_mask_folder
from interp_core.datasets.records import Finding, SplitName

# Folders of label files. They are classes only if nothing else than images is in them.
LABEL_FOLDERS = ("annotations", "labels", "boxes")
HOMES = ("images", "image", "imgs", "img")


@dataclass(frozen=True)
class ClassFolder:
    """A folder of images of one class.

    Attributes:
        path: the folder.
        name: name of the class.
        split: split of its images; None if the folders do not say.
    """

    path: Path
    name: str
    split: SplitName | None = None


@dataclass
class Layout:
    """Class folders of a data set, and what stands beside them.

    Attributes:
        classes: the class folders.
        masks: folders of masks.
        bases: folders that hold class folders, and splits without classes; images directly in them have no label.
        findings: folders that are left out.
    """

    classes: list[ClassFolder] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)
    bases: set[Path] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)


def find_class_folders(root: Path, masks: str | None = None, all_are_classes: bool = False) -> Layout:
    """Find the class folders below a root.

    Args:
        root: folder of the data set.
        masks: folder of masks that the configuration names.
        all_are_classes: whether folders named like splits that hold images directly are classes, whatever is beside.
    """
    skipped = frozenset({root / Path(masks).parts[0]} if masks else set())
    layout = Layout()
    base = _home(root)
    _read_level(root, base, skipped, all_are_classes, layout)
    if base != root:
        layout.masks += [folder for folder in list_folders(root) if folder.name.lower() in MASK_FOLDERS]
        for folder in _folders_beside(base):
            if folder not in skipped:
                message = f"holds images beside {base.name}, which holds the classes: left out"
                layout.findings.append(Finding("images without label", relative_id(folder, root), message))
    if len({entry.name for entry in layout.classes}) == 1:
        first = layout.classes[0]
        wrapper = first.path if first.path.name == first.name else first.path.parent
        layout = _inside_wrapper(root, wrapper, all_are_classes) or layout
    return layout


def _read_level(root: Path, base: Path, skipped: frozenset[Path], all_are_classes: bool, layout: Layout) -> None:
    """Read the splits or classes directly in a folder."""
    folders = [folder for folder in list_folders(base) if folder not in skipped and _holds_image(folder)]
    empty = [folder for folder in list_folders(base) if folder not in skipped and folder not in folders]
    names = splits_of_folders(folder.name for folder in folders)
    splits = {folder: names[folder.name] for folder in folders if folder.name in names}
    layout.bases.add(base)
    nested = [folder for folder in folders if folder not in splits and _subfolders(folder)]
    is_class = len(splits) == 1 and len(nested) >= 2  # such as train beside bus and car, all with folders inside
    if not is_class and any(_subfolders(split) for split in splits):
        _read_splits(root, folders, splits, layout)
        return
    _read_classes(root, folders, set(splits), None, layout, all_are_classes)
    for folder in empty:
        if folder.name.lower() not in (*MASK_FOLDERS, *FURTHER_MASK_FOLDERS, *LABEL_FOLDERS, *HOMES):
            _report_empty(root, folder, layout)


def _read_splits(root: Path, folders: list[Path], splits: dict[Path, SplitName], layout: Layout) -> None:
    """Read the class folders inside folders of splits."""
    for split, name in splits.items():
        base = _home(split)
        layout.bases |= {split, base}
        inside = [folder for folder in list_folders(base) if _holds_image(folder)]
        if len(inside) == 1 and inside[0].name.lower() in HOMES:  # images without classes, as detectors have them
            layout.bases.add(inside[0])
            continue
        _read_classes(root, inside, set(), name, layout)
        if base != split:
            layout.masks += [folder for folder in list_folders(split) if folder.name.lower() in MASK_FOLDERS]
    images = [split for split in splits if split not in layout.masks]
    for folder in folders:
        if folder in splits:
            continue
        if folder.name.lower() in (*MASK_FOLDERS, *FURTHER_MASK_FOLDERS) and is_mask_folder(folder, images):
            layout.masks.append(folder)
        else:
            message = "holds images beside folders of splits: left out"
            layout.findings.append(Finding("images without split", relative_id(folder, root), message))


def _read_classes(
    root: Path,
    folders: list[Path],
    splits: set[Path],
    split: SplitName | None,
    layout: Layout,
    all_are_classes: bool = False,
) -> None:
    """Read class folders that stand side by side, and the masks among them.

    Args:
        root: folder of the data set.
        folders: folders that hold images.
        splits: those of them that are named like splits.
        split: split of all of them.
        layout: what is found is added to it.
        all_are_classes: see `find_class_folders`.
    """
    names = (*MASK_FOLDERS, *FURTHER_MASK_FOLDERS)
    plain = [folder for folder in folders if folder.name.lower() not in (*names, *LABEL_FOLDERS)]
    others = [folder for folder in folders if folder not in plain]
    classes = list(plain)
    for folder in others:
        siblings = [sibling for sibling in folders if sibling != folder]
        if folder.name.lower() in names:
            (layout.masks if is_mask_folder(folder, siblings) else classes).append(folder)
        elif _holds_photographs_only(folder, siblings):
            classes.append(folder)
        else:
            message = "holds labels beside class folders, not a class: its images are left out"
            layout.findings.append(Finding("images without label", relative_id(folder, root), message))
    if splits and not all_are_classes and not [folder for folder in classes if folder not in splits]:
        layout.bases |= splits
        return
    for folder in sorted(classes):
        layout.classes += _by_split_below(folder) if split is None else [ClassFolder(folder, folder.name, split)]


def _by_split_below(folder: Path) -> list[ClassFolder]:
    """Return a class folder, or its parts if all images in it are in folders of two or more splits."""
    inner = _subfolders(folder)
    splits = splits_of_folders(sub.name for sub in inner)
    if len(set(splits.values())) < 2 or len(splits) < len(inner) or list_images(folder):
        return [ClassFolder(folder, folder.name)]
    return [ClassFolder(sub, folder.name, splits[sub.name]) for sub in inner]


def _inside_wrapper(root: Path, folder: Path, all_are_classes: bool) -> Layout | None:
    """Return the layout inside the only folder if it holds several classes, such as that of an archive."""
    if list_images(folder):
        return None
    layout = Layout()
    _read_level(root, _home(folder), frozenset(), all_are_classes, layout)
    if len({entry.name for entry in layout.classes}) < 2:
        return None
    message = "the only folder: the folders in it are the classes"
    layout.findings.insert(0, Finding("classes inside a folder", relative_id(folder, root), message))
    return layout


def _home(base: Path) -> Path:
    """Return the folder `images` inside a folder if classes or splits are in it, else the folder itself."""
    for folder in list_folders(base):
        if folder.name.lower() in HOMES and _subfolders(folder):
            beside = _folders_beside(folder)
            if not beside or (folder.name == HOMES[0] and not list_images(folder)):
                return folder
    return base


def _folders_beside(folder: Path) -> list[Path]:
    """List the folders of images beside a folder, without those named like masks or labels."""
    companions = (*MASK_FOLDERS, *FURTHER_MASK_FOLDERS, *LABEL_FOLDERS)
    siblings = [sibling for sibling in list_folders(folder.parent) if sibling != folder]
    return [sibling for sibling in siblings if sibling.name.lower() not in companions and _holds_image(sibling)]


def _subfolders(folder: Path) -> list[Path]:
    return [sub for sub in list_folders(folder) if _holds_image(sub)]


def _holds_image(folder: Path) -> bool:
    return next(walk_images(folder, []), None) is not None


def _holds_photographs_only(folder: Path, siblings: list[Path]) -> bool:
    return bool(list_images(folder)) and not is_mask_folder(folder, siblings) and not _holds_label_files(folder)


def _holds_label_files(folder: Path) -> bool:
    return any(path.suffix.lower() in (".xml", ".json", ".txt", ".csv") for path in folder.iterdir())


def _report_empty(root: Path, folder: Path, layout: Layout) -> None:
    has_files = any(path.is_file() for path in folder.rglob("*"))
    message = "holds no image of a known format" if has_files else "is empty"
    layout.findings.append(Finding("class without image", relative_id(folder, root), f"{message}: not a class"))
