"""A registered thing chosen by name, as configurations write it: `lime` or `{name: lime, samples_at_224: 500}`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from benchmarks.config.errors import ConfigError
from interp_core.registry import Registry


class Named(BaseModel):
    """A registered thing and its parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    def build(self, registry: Registry[Any]) -> Any:
        """The object, its parameters checked by its own class.

        Raises:
            UnknownNameError: no such name.
            ConfigError: a parameter is unknown or out of range.
        """
        return self.checked(registry.kind, registry[self.name])

    def checked(self, kind: str, cls: type[Any]) -> Any:
        """An object of `cls` with these parameters.

        Raises:
            ConfigError: a parameter is unknown or out of range.
        """
        try:
            return cls(**(self.model_extra or {}))
        except ValidationError as error:
            raise ConfigError(f"{kind} {self.name}: {first_problem(error)}") from error


def _named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


Choice = Annotated[Named, BeforeValidator(_named)]


def first_problem(error: ValidationError) -> str:
    """The first thing pydantic found, in one line: where, what, and what was given."""
    detail = error.errors()[0]
    where = ".".join(str(part) for part in detail["loc"]) or "configuration"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    given = "" if detail["type"] in ("missing", "extra_forbidden") else f", got {detail['input']!r}"
    return f"{where}: {detail['msg']}{given}{more}"
