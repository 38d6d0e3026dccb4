"""Errors of configurations."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from interp_core.errors import InterpError

COMPLETE = "config_problem"


class ConfigError(InterpError):
    """A configuration that cannot be run."""


@dataclass(frozen=True)
class ConfigProblem:
    """One error of a configuration.

    Attributes:
        where: path of the field, such as "explainers.1 (lime).samples_at_224".
        what: reason.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


def complete_error(what: str) -> PydanticCustomError:
    """Return an error that a validator may raise; its message is shown without the value of the field."""
    return PydanticCustomError(COMPLETE, "{what}", {"what": what})


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[ConfigProblem]:
    """Return pydantic's errors about `model` as problems, unknown fields with close names."""
    return [ConfigProblem(path_of(detail["loc"]), _message(detail, model)) for detail in error.errors()]


def path_of(location: tuple[int | str, ...]) -> str:
    """Join the parts of pydantic's location by dots; a name in brackets follows a space."""
    return ".".join(map(str, location)).replace(".(", " (")


def _message(detail: Any, model: type[BaseModel]) -> str:
    if detail["type"] == COMPLETE:
        return detail["msg"]
    if detail["type"] == "missing":
        return "is missing"
    if detail["type"] == "extra_forbidden":
        field, *inner = reversed(detail["loc"])
        close = [] if inner else get_close_matches(str(field), model.model_fields)
        return "no such field" + (f": did you mean {' or '.join(close)}?" if close else "")
    return f"{detail['msg'].removeprefix('Value error, ')}, got {detail['input']!r}"
