"""JSON schema of a configuration, with which editors complete names and parameters and mark errors.

    interp-bench schema > interp-bench.schema.json
    # yaml-language-server: $schema=interp-bench.schema.json      (first line of the YAML file)

Names that no registry has are valid here, since plugins may add them. `interp-bench validate` reports them.
"""

from __future__ import annotations

from typing import Any

from benchmarks.config.run import RunConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the schema of `RunConfig` as it is written in YAML."""
    return {"$schema": DIALECT, **RunConfig.model_json_schema()}
