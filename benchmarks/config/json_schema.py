"""JSON schema of a configuration, so that an editor completes names and parameters and marks what is wrong.

    interp-bench schema > interp-bench.schema.json
    # yaml-language-server: $schema=interp-bench.schema.json      (first line of the YAML file)

Pydantic makes it; the names that registries hold, and the parameters of each, are put in here. Names that are not
registered are let through: a plugin may bring them. `interp-bench validate` knows better.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from baselines import explainers
from benchmarks.config.run import RunConfig
from benchmarks.metrics import metrics
from benchmarks.rivals import rivals
from interp_core.datasets import datasets
from interp_core.knowledge import terms

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Schema of `RunConfig` as it is written in YAML."""
    schema = RunConfig.model_json_schema()
    kinds: dict[str, Mapping[str, Any]] = {
        "dataset": datasets, "term": terms, "explainer": explainers, "metric": metrics,
        "rival": {name: cls.Options for name, cls in rivals.items()},
    }  # fmt: skip
    definitions = schema["$defs"]
    definitions.pop("Named", None)
    for kind, registry in kinds.items():
        definitions[kind] = _choice(kind, registry, definitions)
    properties = schema["properties"]
    properties["dataset"] = {"$ref": "#/$defs/dataset"}
    for field, kind in (("explainers", "explainer"), ("metrics", "metric")):
        properties[field] = {"type": "array", "minItems": 1, "items": {"$ref": f"#/$defs/{kind}"}}
    some = {"type": "array", "items": {"$ref": "#/$defs/term"}}
    for fields in (properties, definitions["Stage"]["properties"]):
        fields["terms"] = {"anyOf": [some, {"type": "null"}], "default": None}
    rival = {"anyOf": [{"$ref": "#/$defs/rival"}, {"type": "null"}], "default": None}
    definitions["ModelConfig"]["properties"]["rival"] = rival
    return {"$schema": DIALECT, **schema}


def _choice(kind: str, registry: Mapping[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A name, or a name with parameters: those of the registered class where there is one."""
    rules = []
    for name, cls in registry.items():
        own = cls.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(own.pop("$defs", {}))
        own["properties"] = {"name": {"const": name}, **own.get("properties", {})}
        own["required"] = ["name", *own.get("required", [])]
        test = {"properties": {"name": {"const": name}}, "required": ["name"]}
        rules.append({"if": test, "then": own})
    known = {"properties": {"name": {"anyOf": [{"enum": list(registry)}, {"type": "string"}]}}}
    with_parameters = {"type": "object", "required": ["name"], **known, "allOf": rules}
    return {
        "title": kind,
        "anyOf": [{"enum": list(registry)}, {"type": "string"}, with_parameters],
    }
