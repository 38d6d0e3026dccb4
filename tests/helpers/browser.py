"""Evaluate JavaScript on a page in headless Chromium."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NO_BROWSER = "no Chromium on this machine"


def run_browser(folder: Path, *arguments: str) -> str:
    """Run headless Chromium with its profile in `folder`, and return what it prints."""
    command = [
        str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=4000", *arguments,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def evaluate(text: str, folder: Path, question: str, width: int) -> Any:
    """Evaluate a JavaScript expression on a page in a frame of this width, and return its value.

    The page's policy is kept, and the script's hash is added to it. A frame is needed, because the browser's own window
    is never narrower than 500 pixels.
    """
    script = f"window.addEventListener('load', () => {{ parent.document.title = JSON.stringify({question}); }});"
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = text.replace("script-src ", f"script-src 'sha256-{allowed}' ")
    text = text.replace("</body>", f"<script>{script}</script></body>")
    head = '<!doctype html><meta charset="utf-8"><title></title>'
    frame = f'<iframe style="border:0" width="{width}" height="900" srcdoc="{html.escape(text)}"></iframe>'
    probe = folder / "probe.html"
    probe.write_text(head + frame, encoding="utf-8")
    dom = run_browser(folder, "--window-size=1400,1000", "--dump-dom", probe.as_uri())
    return json.loads(html.unescape(re.findall(r"<title>(.*?)</title>", dom, re.DOTALL)[0]))
