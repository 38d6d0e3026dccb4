"""A network and images for a diagnosis that several processes share, and the command that each of them runs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from helpers.command import exit_code
from helpers.cue_nets import CLASSES, SIDE, colour_net, cue_images

COUNT, SHARD, BROKEN = 60, 16, 3


def follower() -> nn.Module:
    """Build the network that decides by the red cue and by the green object."""
    return colour_net(green=1.0, red=2.0)


def write_images(folder: Path) -> None:
    """Write images of both classes, one of them damaged."""
    images, _ = cue_images(COUNT, share=0.4)
    for number, (pixels, target) in enumerate(zip(images.images, images.targets, strict=True)):
        path = folder / CLASSES[target] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(path)
    (folder / CLASSES[0] / f"{2 * BROKEN}.png").write_bytes(b"words")


def diagnose(folder: str, output: str) -> int:
    """Diagnose the network on all images, in several shards, and return the exit code."""
    return exit_code(
        "diagnose", f"{__file__}:follower", "--plugin", __file__, "--data", folder, "--split", "all", "--device", "cpu",
        "--mean", "0", "--std", "1", "--set", f"image_size={SIDE}", "--set", "workers=0",
        "--checks", "patches,places,duplicates", "--output", output,
    )  # fmt: skip


if __name__ == "__main__":
    from benchmarks.diagnosis import evidence
    from benchmarks.diagnosis.processes import join_processes

    evidence.SHARD = SHARD
    print(f"one of {join_processes().count}", flush=True)
    sys.exit(diagnose(*sys.argv[1:]))
