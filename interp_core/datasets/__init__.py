"""Data sets: images with their targets and evidence masks, as arrays. They know no model."""

from __future__ import annotations

from interp_core.datasets.celeba.dataset import CelebA
from interp_core.datasets.contract import DatasetConfig, Images, ImageSet, datasets
from interp_core.datasets.files.dataset import FileDataset
from interp_core.datasets.files.image_set import FileImageSet
from interp_core.datasets.files.splits import SplitRecord, complete_splits
from interp_core.datasets.folder import Folder
from interp_core.datasets.huggingface import HuggingFace
from interp_core.datasets.imagenet.dataset import ImageNet
from interp_core.datasets.records import SPLITS, Box, Finding, Index, MaskFile, Record, SplitName
from interp_core.datasets.rsna import Rsna
from interp_core.datasets.synthetic.digits_in_scenes import DigitsInScenes
from interp_core.registry import import_modules

__all__ = [
    "SPLITS",
    "Box",
    "CelebA",
    "DatasetConfig",
    "DigitsInScenes",
    "FileDataset",
    "FileImageSet",
    "Finding",
    "Folder",
    "HuggingFace",
    "ImageNet",
    "ImageSet",
    "Images",
    "Index",
    "MaskFile",
    "Record",
    "Rsna",
    "SplitName",
    "SplitRecord",
    "complete_splits",
    "datasets",
]

import_modules(__path__, __name__, recursive=True)
