"""Pictures of a finding: images that show it with their region outlined, and images before and after interventions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion
from torch import Tensor

from benchmarks.diagnosis.check import Context, Suspect
from benchmarks.diagnosis.evidence import Evidence
from benchmarks.diagnosis.intervention import Outcome
from benchmarks.store.atomic import write_atomically
from interp_core.pictures.overlay import overlay
from interp_core.pictures.png import encode_png

EXAMPLES, SIDE, GAP, TEXT = 8, 128, 6, 18
FONT, LETTERS = 12, 21  # pixels, and letters that fit beneath an image
FOLDER = "pictures"
OUTLINE = (255, 40, 40)


def save_picture(picture: Image.Image, folder: Path, name: str) -> str:
    """Write a picture into the folder of a diagnosis; return its name relative to that."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FOLDER / f"{name}.png", encode_png(picture))
    return f"{FOLDER}/{name}.png"


def draw_examples(suspect: Suspect, evidence: Evidence, context: Context) -> Image.Image | None:
    """Draw images that show a suspect, above their maps; regions are outlined. None where no image shows it."""
    positions = suspect.members[:EXAMPLES]
    if not len(positions):
        return None
    images = context.images.take(evidence.rows[positions]).images
    if not len(images):
        return None
    subject = context.subject
    look = subject.look(images)
    masks = None if suspect.region is None else suspect.region.masks(subject, images).numpy()[:, 0]
    pixels = images.transpose(0, 2, 3, 1)
    maps = look.maps[:, 0].cpu().numpy()
    top = [outline(image, None if masks is None else masks[i]) for i, image in enumerate(pixels)]
    below = [overlay(image / 255, values) for image, values in zip(pixels, maps, strict=True)]
    words = [evidence.classes[evidence.answers[i]] for i in positions[: len(images)]]
    return sheet([top, below], [words, ["evidence"] * len(below)])


def draw_outcomes(outcomes: Sequence[Outcome], classes: Sequence[str]) -> Image.Image:
    """Draw a row of images for each intervention: before, after, control, with the probability of the class."""
    rows, words = [], []
    for outcome in outcomes:
        tiles, texts = [], []
        for i, example in enumerate(outcome.examples):
            for image, name, probabilities in zip(
                example, ("before", outcome.action, "control"), (outcome.before, outcome.after, outcome.control),
                strict=True,
            ):  # fmt: skip
                tiles.append(to_pixels(image))
                texts.append(f"{name}: {classes[outcome.cls]} {probabilities[i, outcome.cls]:.2f}")
        rows.append(tiles)
        words.append(texts)
    return sheet(rows, words)


def to_pixels(image: Tensor) -> np.ndarray:
    """Turn an image (3, H, W) in [0, 1] into (H, W, 3) uint8."""
    return (image.clamp(0, 1).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def outline(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Draw the outline of a mask (H, W) bool on an image (H, W, 3) uint8."""
    if mask is None or not mask.any():
        return image
    drawn = image.copy()
    width = max(1, round(max(mask.shape) / 80))
    drawn[mask & ~binary_erosion(mask, iterations=width)] = OUTLINE
    return drawn


def sheet(rows: Sequence[Sequence[np.ndarray]], words: Sequence[Sequence[str]]) -> Image.Image:
    """Arrange images (H, W, 3) uint8 in rows, each with a few words beneath."""
    columns = max(len(row) for row in rows)
    width, height = columns * (SIDE + GAP) + GAP, len(rows) * (SIDE + TEXT + GAP) + GAP
    canvas = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(FONT)
    for i, (row, texts) in enumerate(zip(rows, words, strict=True)):
        for j, (tile, text) in enumerate(zip(row, texts, strict=True)):
            left, top = GAP + j * (SIDE + GAP), GAP + i * (SIDE + TEXT + GAP)
            canvas.paste(Image.fromarray(tile).resize((SIDE, SIDE)), (left, top))
            draw.text((left, top + SIDE + 2), text[:LETTERS], fill="black", font=font)
    return canvas
