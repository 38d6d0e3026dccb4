"""Say what is wrong with a configuration."""

from __future__ import annotations

from interp_core.errors import InterpError


class ConfigError(InterpError):
    """A configuration that cannot be run."""
