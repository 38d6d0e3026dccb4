"""Bring the stored results that pages link to into the site, and make links to them work there.

Pages link to `../results/...`, which works where the repository is browsed. In the site these files are at `stored/`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

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
