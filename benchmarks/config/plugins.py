"""Load plugins: Python files or installed modules that register explainers or metrics."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from interp_core.errors import InterpError, one_line
from interp_core.registry import Registry


class PluginError(InterpError):
    """A plugin cannot be imported."""


def load_plugin(name: str) -> ModuleType:
    """Import a plugin once.

    Args:
        name: path of a Python file, or dotted name of an installed module.

    Raises:
        PluginError: there is no such file or module, or importing it fails.
    """
    try:
        return _load_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a plugin may raise anything, or leave
        raise PluginError(f"plugin {name} cannot be imported: {one_line(error, with_type=True)}") from error


def _load_file(path: Path) -> ModuleType:
    module_name = f"interp_bench_plugin_{path.stem}"
    loaded = sys.modules.get(module_name)
    if loaded is not None and loaded.__file__ == str(path.resolve()):
        return loaded
    spec = importlib.util.spec_from_file_location(module_name, path.resolve())
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def names_from(module: ModuleType, registry: Registry[Any]) -> list[str]:
    """Return the names under which a registry has classes that the module defines."""
    return [name for name, cls in registry.items() if cls.__module__ == module.__name__]
