"""Evidence of a diagnosis from arrays, for tests of checks."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from benchmarks.diagnosis.check import Context
from benchmarks.diagnosis.evidence import DECISIVE, GRID, Evidence
from benchmarks.diagnosis.properties import NAMES
from benchmarks.diagnosis.subject import Subject
from interp_core.datasets.contract import ImageSet

FEATURES, CHANNELS = 6, 5


def make_evidence(n: int = 60, classes: int = 2, seed: int = 0, accuracy: float = 0.8, **arrays: Any) -> Evidence:
    """Build evidence of random values, in which nothing depends on the label; `arrays` replace fields.

    Answers equal the label with the given accuracy.
    """
    rng = np.random.default_rng(seed)
    targets = np.asarray(arrays.pop("targets", np.arange(n) % max(1, classes)))
    labels = targets if targets.ndim == 1 else targets.argmax(1)
    fields: dict[str, Any] = {
        "ids": [f"image-{number}" for number in range(n)],
        "rows": np.arange(n),
        "classes": tuple(f"class {number}" for number in range(classes)),
        "targets": targets,
        "probabilities": make_probabilities(np.clip(labels, 0, None), classes, accuracy, rng),
        "features": rng.normal(size=(n, FEATURES)).astype(np.float16),
        "maps": rng.normal(size=(n, GRID, GRID)).astype(np.float32),
        "inside": np.full(n, np.nan),
        "area": np.full(n, np.nan),
        "properties": rng.normal(size=(n, len(NAMES))).astype(np.float32),
        "property_names": NAMES,
        "hashes": rng.integers(1, 2**63, n).astype(np.uint64),
        "level": "head",
        "cells": rng.normal(size=(n, DECISIVE, CHANNELS)).astype(np.float16),
        "places": rng.random((n, DECISIVE, 2)).astype(np.float32),
        "weights": np.full((n, DECISIVE), 0.1, np.float32),
    }
    return Evidence(**{**fields, **arrays})


def make_probabilities(labels: np.ndarray, classes: int, accuracy: float, rng: np.random.Generator) -> np.ndarray:
    """Draw probabilities (N, K) whose largest is that of the label in a share of the images."""
    probabilities = rng.random((len(labels), classes)) * 0.5 + 0.05
    wrong = rng.random(len(labels)) >= accuracy
    others = (labels + rng.integers(1, max(2, classes), len(labels))) % classes
    answers = np.where(wrong, others, labels)
    probabilities[np.arange(len(labels)), answers] += 1
    return (probabilities / probabilities.sum(1, keepdims=True)).astype(np.float32)


def make_context(evidence: Evidence, side: int = 8, **fields: Any) -> Context:
    """Build a context with random images and without a network."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (min(len(evidence), 200), 3, side, side)).astype(np.uint8)
    masks = np.zeros((len(pixels), 1, side, side), bool)
    images = ImageSet(pixels, np.zeros(len(pixels), np.int64), masks, evidence.ids[: len(pixels)])
    return Context(subject=cast(Subject, None), images=images, **fields)
