"""Data sets: images with their targets and the evidence for them, as arrays. They know no model."""

from __future__ import annotations

from interp_core.datasets.base import SPLITS, DatasetConfig, Images, Split, SplitName, datasets
from interp_core.datasets.celeba import CelebA
from interp_core.datasets.digits import DigitsInScenes
from interp_core.datasets.files import FileDataset
from interp_core.datasets.filesplit import FileSplit
from interp_core.datasets.folder import Folder
from interp_core.datasets.huggingface import HuggingFace
from interp_core.datasets.imagenet import ImageNet
from interp_core.datasets.records import Box, Finding, Index, MaskFile, Record
from interp_core.datasets.rsna import Rsna

__all__ = [
    "SPLITS",
    "Box",
    "CelebA",
    "DatasetConfig",
    "DigitsInScenes",
    "FileDataset",
    "FileSplit",
    "Finding",
    "Folder",
    "HuggingFace",
    "ImageNet",
    "Images",
    "Index",
    "MaskFile",
    "Record",
    "Rsna",
    "Split",
    "SplitName",
    "datasets",
]
