"""Entries of a registry as configurations write them: `lime` or `{name: lime, samples_at_224: 500}`.

A choice is a union over a registry, discriminated by `name`. The registered class checks the parameters, its errors
get the path of the field, and the JSON schema lists names and parameters. The registry is read when a configuration is
parsed, so that plugins count. A choice keeps its parameters as they were written, for `run.json` and for hashes.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from baselines import explainers
from benchmarks.config.errors import complete_error, problems_of
from benchmarks.metrics import metrics
from benchmarks.rivals import rivals
from interp_core.datasets import datasets
from interp_core.errors import InterpError
from interp_core.knowledge import terms
from interp_core.registry import Registry


class Choice(BaseModel):
    """An entry of a registry and its parameters. Subclasses name the registry."""

    model_config = ConfigDict(extra="allow", frozen=True)

    registry: ClassVar[Registry[Any]]

    name: str

    @classmethod
    def parameter_model(cls, name: str) -> type[BaseModel]:
        """Return the class that has the parameters of an entry as fields.

        Raises:
            UnknownNameError: no such entry.
        """
        return cls.registry[name]

    def build(self) -> Any:
        """Return an instance of the parameter model."""
        return self.parameter_model(self.name)(**(self.model_extra or {}))

    @model_validator(mode="before")
    @classmethod
    def _expand_name(cls, value: object) -> object:
        if not isinstance(value, str | dict | Choice):
            raise ValueError("give a name, or {name: ...} with parameters")
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_parameters(self) -> Choice:
        try:
            self.build()
        except InterpError as error:
            raise complete_error(str(error)) from error
        except ValidationError as error:
            raise self._locate(error) from error
        return self

    def _locate(self, error: ValidationError) -> ValidationError:
        """Return an error about parameters with the name of the entry in its locations."""
        problems = problems_of(error, self.parameter_model(self.name))
        lines = [
            InitErrorDetails(
                type=complete_error(problem.what), loc=(f"({self.name})", *detail["loc"]), input=detail["input"]
            )
            for problem, detail in zip(problems, error.errors(), strict=True)
        ]
        return ValidationError.from_exception_data(error.title, lines)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema of a name with or without parameters. Other names are allowed, since plugins add some."""
        names = {"anyOf": [{"enum": list(cls.registry)}, {"type": "string"}]}
        rules = []
        for name in cls.registry:
            parameters = handler.resolve_ref_schema(handler(cls.parameter_model(name).__pydantic_core_schema__))
            fields = {
                **parameters,
                "properties": {"name": {"const": name}, **parameters.get("properties", {})},
                "required": ["name", *parameters.get("required", [])],
            }
            rules.append({"if": {"properties": {"name": {"const": name}}, "required": ["name"]}, "then": fields})
        entry = {"type": "object", "required": ["name"], "properties": {"name": names}, "allOf": rules}
        return {"title": cls.registry.kind, "anyOf": [*names["anyOf"], entry]}


class DatasetChoice(Choice):
    """A data set and its parameters."""

    registry = datasets


class TermChoice(Choice):
    """A knowledge term and its parameters."""

    registry = terms


class ExplainerChoice(Choice):
    """An explainer and its parameters."""

    registry = explainers


class MetricChoice(Choice):
    """A metric and its parameters."""

    registry = metrics


class RivalChoice(Choice):
    """A rival and its options."""

    registry = rivals

    @classmethod
    def parameter_model(cls, name: str) -> type[BaseModel]:
        """Return the class of the rival's options."""
        return rivals[name].Options
