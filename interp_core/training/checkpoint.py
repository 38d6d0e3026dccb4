"""Stop and go on: a file that holds all of a training, so that going on ends with the very same weights.

The file is replaced as a whole and read without running code in it (`weights_only`). What libraries and threads do to
sums is not in it: the same machine and settings are needed for the same bits.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from interp_core.errors import StoreError

FORMAT = 1


class Checkpoint:
    """A file of a training's state.

    Args:
        path: of the file; folders are made.
        about: what the training must be the same in, as plain values; checked when the file is read.
    """

    def __init__(self, path: str | Path, about: dict[str, Any]) -> None:
        self.path, self.about = Path(path), about

    def read(self) -> dict[str, Any] | None:
        """The state; None if there is no file.

        Raises:
            StoreError: it cannot be read, or is of another training.
        """
        if not self.path.exists():
            return None
        try:
            found = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, LookupError, ValueError, pickle.UnpicklingError) as error:
            reason = str(error).partition("\n")[0]
            raise StoreError(f"cannot read {self.path}: {reason}; delete it to start anew") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise StoreError(f"{self.path} is not a training of format {FORMAT}; delete it to start anew")
        other = [name for name, value in self.about.items() if found["about"].get(name) != value]
        if other:
            raise StoreError(
                f"{self.path} is of a training with another {', '.join(other)}: give another path, or delete it"
            )
        return found["state"]

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file; whoever is killed meanwhile leaves the one before.

        Raises:
            StoreError: it cannot be written.
        """
        part = self.path.with_name(self.path.name + ".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                torch.save({"format": FORMAT, "about": self.about, "state": state}, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error}") from error


def random_states(device: torch.device) -> dict[str, torch.Tensor]:
    """State of torch's own generators, from which dropout draws."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Put them back."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
