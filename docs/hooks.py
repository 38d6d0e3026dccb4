"""Bring the stored results that pages link to into the site, and make links to them work there.

Pages link to `../results/...`, which works where the repository is browsed. In the site these files are at `stored/`.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocstrings import Inventory

# Packages whose names users import.
FACES = (
    "interp_core",
    "interp_core.training",
    "interp_core.knowledge",
    "interp_core.datasets",
    "baselines",
    "benchmarks.metrics",
    "benchmarks.rivals",
    "benchmarks.statistics",
    "benchmarks.report",
)
LINK = re.compile(r"\]\(\.\./(results/[^)#]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add every file under `results/` that a page links to."""
    docs = Path(config.docs_dir)
    targets = {target for page in docs.glob("*.md") for target in LINK.findall(page.read_text(encoding="utf-8"))}
    for target in sorted(targets):
        path = docs.parent / target
        if path.is_file():
            files.append(File.generated(config, site_path(target), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links to stored results at their place in the site; stored pages lose links that only a checkout has."""
    if page.file.generated_by:
        return re.sub(r"(?<!!)\[([^\]]+)\]\((?!http)[^)]+\)", r"\1", markdown)
    return LINK.sub(lambda match: f"]({site_path(match.group(1))})", markdown)


def site_path(target: str) -> str:
    """Return where a stored result lies in the site."""
    return target.replace("results/", "stored/", 1).replace("README.md", "about.md")


def on_post_build(config: Any) -> None:
    """Check that the reference has every public name of every package that lists some.

    Raises:
        PluginError: a name is missing.
    """
    root, inventory = Path(config.docs_dir).parent, Path(config.site_dir) / "objects.inv"
    with inventory.open("rb") as file:
        documented = set(Inventory.parse_sphinx(file))
    missing = [
        f"{face}.{name}"
        for face in FACES
        for name, home in public_names(root, face).items()
        if not documented & {f"{face}.{name}", f"{home}.{name}"}
    ]
    if missing:
        raise PluginError(f"docs/reference lacks {', '.join(missing)}: add the module that has them to a page")


def public_names(root: Path, face: str) -> dict[str, str]:
    """Return the names that a package lists in `__all__`, each with the module that defines it."""
    tree = ast.parse(root.joinpath(*face.split("."), "__init__.py").read_text(encoding="utf-8"))
    homes = {
        alias.asname or alias.name: str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    lists = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
    ]
    return {name: homes.get(name, face) for value in lists for name in ast.literal_eval(value)}
