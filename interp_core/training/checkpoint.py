"""Checkpoints: files with the whole state of a training, so that resuming it ends with the same weights.

The file is replaced as a whole, and read without running code in it (`weights_only`).

Limit: weights are equal bit for bit on the same machine with the same libraries and number of threads only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
        except Exception as error:  # a damaged pickle raises errors of any kind
            raise StoreError(f"cannot read {self.path}: {one_line(error)}; delete it to start anew") from error
        parts = content if isinstance(content, dict) else {}
        about, state = parts.get("about"), parts.get("state")
        is_own = not _differs(parts.get("format"), FORMAT)
        if not is_own or not isinstance(about, dict) or not isinstance(state, dict):
            raise StoreError(f"{self.path} is not a training of format {FORMAT}; delete it to start anew")
        changed = [name for name, value in self.identity.items() if _differs(about.get(name), value)]
        if changed:
            raise StoreError(
                f"{self.path} is of a training with another {', '.join(changed)}: give another path, or delete it"
            )
        return state

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Say that the file is damaged, where its state does not fit.

        Raises:
            StoreError: the block raised an error of a state that lacks a part, or has one of another kind.
        """
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
            reason = one_line(error, limit=200, with_type=isinstance(error, LookupError))
            raise StoreError(f"{self.path} is damaged: {reason}; delete it to start anew") from error

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


def check_form(state: dict[str, Any], own: dict[str, Any], name: str) -> None:
    """Check that the values of a stored state are of the same kinds as those it replaces.

    Args:
        state: as stored; entries that `own` lacks are not looked at.
        own: plain values, or lists of them.
        name: of the state.

    Raises:
        ValueError: one is of another kind, or a list of another length.
    """
    odd = [key for key in own if key in state and _form(state[key]) != _form(own[key])]
    if odd or not isinstance(state, dict):
        raise ValueError(f"its {name} has no sound {odd[0] if odd else 'form'}")


def _differs(value: Any, other: Any) -> bool:
    """Return whether plain values differ; a tensor, whose comparison has no one answer, differs from all."""
    try:
        return bool(value != other)
    except (RuntimeError, TypeError, ValueError):
        return True


def _form(value: Any) -> Any:
    """Return the kind of a value: numbers are one kind."""
    if isinstance(value, list | tuple):
        return [_form(entry) for entry in value]
    return "number" if isinstance(value, int | float) else type(value)


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
