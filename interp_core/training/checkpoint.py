"""Checkpoints: files with the whole state of a training, so that resuming it ends with the same weights.

The file is replaced as a whole, and read without running code in it (`weights_only`).

Limit: weights are equal bit for bit on the same machine with the same libraries and number of threads only.
"""

from __future__ import annotations

import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from interp_core.errors import StoreError, one_line

FORMAT = 1


class Checkpoint:
    """File with the state of a training.

    Args:
        path: path of the file; missing folders are made.
        identity: plain values that must be equal when the training is resumed; checked when the file is read.
    """

    def __init__(self, path: str | Path, identity: dict[str, Any]) -> None:
        self.path, self.identity = Path(path), identity

    def read(self) -> dict[str, Any] | None:
        """Read the state; None if there is no file.

        Raises:
            StoreError: the file cannot be read, or belongs to another training.
        """
        if not self.path.exists():
            return None
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, LookupError, ValueError, pickle.UnpicklingError) as error:
            raise StoreError(f"cannot read {self.path}: {one_line(error)}; delete it to start anew") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise StoreError(f"{self.path} is not a training of format {FORMAT}; delete it to start anew")
        changed = [name for name, value in self.identity.items() if content["about"].get(name) != value]
        if changed:
            raise StoreError(
                f"{self.path} is of a training with another {', '.join(changed)}: give another path, or delete it"
            )
        state: dict[str, Any] = content["state"]
        return state

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file; a process killed meanwhile leaves the previous one.

        Raises:
            StoreError: the file cannot be written.
        """
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save({"format": FORMAT, "about": self.identity, "state": state}, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except (OSError, RuntimeError) as error:  # torch's writer has no OSError where the disk is full
            reason = error if isinstance(error, OSError) else "the disk is full, or the file too large"
            raise StoreError(f"cannot write {self.path}: {reason}; free space and start again to continue") from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def get_random_states(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the state of torch's default generators, which dropout uses."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Restore the state of torch's default generators."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
