"""Locate CelebA's 40 attributes on a face: boxes from five landmarks, or parts of CelebAMask-HQ.

Lengths are in units of the distance between the eyes. Positions are measured from the middle between the eyes (x to the
right of the image, y down), from the tip of the nose or from the middle of the mouth. The numbers are ours, fitted by
eye to aligned faces; CelebA has no regions. An attribute of the whole face, such as Male or Young, has the face as its
region. Blurry concerns the whole image and has none.
Known limits: boxes are upright, so they fit a tilted face only roughly; hair and hats in unusual positions are missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Patch(NamedTuple):
    """Box relative to anchor points of a face.

    Attributes:
        left, top, right, bottom: distances from the anchors, in distances between the eyes.
        above: anchor of the top, one of "eyes", "nose", "mouth".
        below: anchor of the bottom.
        mirrored: whether the same box also lies on the other side of the face.
    """

    left: float
    top: float
    right: float
    bottom: float
    above: str = "eyes"
    below: str = "eyes"
    mirrored: bool = False


PATCHES: dict[str, tuple[Patch, ...]] = {
    "eyes": (Patch(-0.95, -0.3, 0.95, 0.3),),
    "brows": (Patch(-1.05, -0.8, 1.05, -0.15),),
    "glasses": (Patch(-1.2, -0.5, 1.2, 0.6),),
    "under eyes": (Patch(-0.95, 0.1, 0.95, 0.65),),
    "nose": (Patch(-0.45, -0.1, 0.45, 0.3, "eyes", "nose"),),
    "mouth": (Patch(-0.75, -0.35, 0.75, 0.4, "mouth", "mouth"),),
    "moustache": (Patch(-0.75, 0.05, 0.75, 0.1, "nose", "mouth"),),
    "chin": (Patch(-0.75, 0.2, 0.75, 1.1, "mouth", "mouth"),),
    "beard": (Patch(-1.25, 0.05, 1.25, 1.2, "nose", "mouth"),),
    "whiskers": (Patch(-1.5, -0.2, -0.75, 0.5, "eyes", "mouth", mirrored=True),),
    "cheeks": (Patch(-1.25, 0.25, -0.3, 0.1, "eyes", "mouth", mirrored=True),),
    "ears": (Patch(-1.75, -0.1, -1.1, 0.6, "eyes", "mouth", mirrored=True),),
    "forehead": (Patch(-1.3, -1.9, 1.3, -0.5),),
    "crown": (Patch(-1.6, -2.4, 1.6, -0.9),),
    "hair": (Patch(-1.9, -2.4, 1.9, -0.9), Patch(-2.1, -0.9, -1.15, 1.3, "eyes", "mouth", mirrored=True)),
    "hat": (Patch(-1.9, -2.8, 1.9, -0.6),),
    "neck": (Patch(-1.2, 1.0, 1.2, 2.2, "mouth", "mouth"),),
    "face": (Patch(-1.35, -1.5, 1.35, 1.2, "eyes", "mouth"),),
}
"""Boxes of each place on a face."""


class FacePart(NamedTuple):
    """Where an attribute is visible.

    Attributes:
        places: names in `PATCHES`; none for the whole image.
        parts: parts of CelebAMask-HQ that show it.
    """

    places: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


BROWS, EYES, LIPS = ("l_brow", "r_brow"), ("l_eye", "r_eye"), ("mouth", "u_lip", "l_lip")
FACE = FacePart(("face",), ("skin", "nose", *BROWS, *EYES, *LIPS))
HAIR, MOUTH, NOSE = FacePart(("hair",), ("hair",)), FacePart(("mouth",), LIPS), FacePart(("nose",), ("nose",))
BEARD, CHIN = FacePart(("beard",), ("skin",)), FacePart(("chin",), ("skin",))

FACE_PARTS: dict[str, FacePart] = {
    "5_o_Clock_Shadow": BEARD,
    "Arched_Eyebrows": FacePart(("brows",), BROWS),
    "Attractive": FACE,
    "Bags_Under_Eyes": FacePart(("under eyes",), ("skin",)),
    "Bald": FacePart(("crown",), ("skin",)),
    "Bangs": FacePart(("forehead",), ("hair",)),
    "Big_Lips": MOUTH,
    "Big_Nose": NOSE,
    "Black_Hair": HAIR,
    "Blond_Hair": HAIR,
    "Blurry": FacePart(),
    "Brown_Hair": HAIR,
    "Bushy_Eyebrows": FacePart(("brows",), BROWS),
    "Chubby": FACE,
    "Double_Chin": CHIN,
    "Eyeglasses": FacePart(("glasses",), ("eye_g",)),
    "Goatee": CHIN,
    "Gray_Hair": HAIR,
    "Heavy_Makeup": FACE,
    "High_Cheekbones": FacePart(("cheeks",), ("skin",)),
    "Male": FACE,
    "Mouth_Slightly_Open": MOUTH,
    "Mustache": FacePart(("moustache",), ("skin",)),
    "Narrow_Eyes": FacePart(("eyes",), EYES),
    "No_Beard": BEARD,
    "Oval_Face": FACE,
    "Pale_Skin": FACE,
    "Pointy_Nose": NOSE,
    "Receding_Hairline": FacePart(("forehead",), ("skin",)),
    "Rosy_Cheeks": FacePart(("cheeks",), ("skin",)),
    "Sideburns": FacePart(("whiskers",), ("skin", "hair")),
    "Smiling": FacePart(("mouth", "cheeks"), LIPS),
    "Straight_Hair": HAIR,
    "Wavy_Hair": HAIR,
    "Wearing_Earrings": FacePart(("ears",), ("ear_r",)),
    "Wearing_Hat": FacePart(("hat",), ("hat",)),
    "Wearing_Lipstick": MOUTH,
    "Wearing_Necklace": FacePart(("neck",), ("neck_l",)),
    "Wearing_Necktie": FacePart(("neck",), ("cloth",)),
    "Young": FACE,
}
"""Face part of each attribute, in the order of CelebA."""

# Parts of CelebAMask-HQ that mark no more than an attribute. Others, such as skin for a beard, mark far more.
EXACT = frozenset({*BROWS, *EYES, *LIPS, "nose", "hair", "eye_g", "ear_r", "hat", "neck_l"})


def has_exact_parts(face_part: FacePart) -> bool:
    """Return whether parts of CelebAMask-HQ mark an attribute and no more, or the whole face if it concerns that."""
    return bool(face_part.parts) and (EXACT.issuperset(face_part.parts) or "face" in face_part.places)


# Landmarks beyond this are outside every image.
MAX_COORDINATE = 1e5

Corners = tuple[int, int, int, int]


def face_boxes(landmarks: Sequence[float], size: tuple[int, int] | None = None) -> dict[str, tuple[Corners, ...]]:
    """Return the boxes of all places on a face, in whole pixels, cut to the image.

    Args:
        landmarks: x and y of left eye, right eye, nose, left and right corner of the mouth, in pixels; left is the left
            of the image.
        size: (width, height) of the image; None cuts at its left and top only.

    Returns:
        Boxes by place; empty if the eyes coincide or a landmark is not a number.
    """
    points = np.asarray(landmarks, np.float64).reshape(5, 2)
    if not np.isfinite(points).all() or np.abs(points).max() > MAX_COORDINATE:
        return {}
    unit = float(np.hypot(*(points[1] - points[0])))
    if unit < 1:
        return {}
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    heights = {"eyes": float(eyes[1]), "nose": float(points[2, 1]), "mouth": float(mouth[1])}
    boxes_by_place = {}
    for name, patches in PATCHES.items():
        middle = {"nose": points[2, 0], "mouth": mouth[0]}.get(name, eyes[0])
        boxes = [_box(p, side, float(middle), heights, unit, size) for p in patches for side in _sides(p)]
        boxes_by_place[name] = tuple(box for box in boxes if box[0] < box[2] and box[1] < box[3])
    return boxes_by_place


def _sides(patch: Patch) -> tuple[int, ...]:
    return (1, -1) if patch.mirrored else (1,)


def _box(
    patch: Patch, side: int, middle: float, heights: dict[str, float], unit: float, size: tuple[int, int] | None
) -> Corners:
    left, right = sorted((middle + side * patch.left * unit, middle + side * patch.right * unit))
    top, bottom = heights[patch.above] + patch.top * unit, heights[patch.below] + patch.bottom * unit
    low = max(round(left), 0), max(round(top), 0)
    high = (round(right), round(bottom))
    return (*low, *high) if size is None else (*low, min(high[0], size[0]), min(high[1], size[1]))
