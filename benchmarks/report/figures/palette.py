"""Name the colours of figures and page, each with the colour that replaces it in dark mode.

The colours of networks are Okabe and Ito's (2008), which colour-blind readers can tell apart.
"""

from __future__ import annotations

from collections.abc import Iterable


class Colour(str):
    """A colour of light mode as matplotlib reads it, with its name and its colour of dark mode."""

    __slots__ = ("dark", "name")
    name: str
    dark: str

    def __new__(cls, name: str, light: str, dark: str | None = None) -> Colour:
        """Make a colour that stays as it is in dark mode where `dark` is left out."""
        colour = super().__new__(cls, light)
        colour.name, colour.dark = name, dark or light
        return colour


# Figures.
SHEET = Colour("sheet", "#ffffff", "#1b1f24")
INK = Colour("ink", "#222222", "#e4e7ea")
FAINT_INK = Colour("faint-ink", "#6b6b6b", "#a2abb5")
CONTROL = Colour("control", "#8a8a8a", "#9aa3ad")
BAND = Colour("band", "#e9e9e9", "#30363d")
GRID = Colour("grid", "#eeeeee", "#2d333a")
AXIS = Colour("axis", "#999999", "#6e7781")
LEADER = Colour("leader", "#aaaaaa", "#6e7781")
NO_MAP = Colour("no-map", "#f4f4f4", "#262b31")
NO_MAP_EDGE = Colour("no-map-edge", "#bbbbbb", "#6e7781")
BRIGHT = Colour("bright", "#f98e09")  # of the colour map inferno, at 0.75
OUTLINE = Colour("outline", "#56b4e9")
OUTLINE_EDGE = Colour("outline-edge", "#000000")
BLUE = Colour("blue", "#0072b2", "#56b4e9")
VERMILION = Colour("vermilion", "#d55e00", "#ff8f3f")
GREEN = Colour("green", "#009e73", "#3fcf9f")
PURPLE = Colour("purple", "#cc79a7")
ORANGE = Colour("orange", "#e69f00")
NETWORKS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, OUTLINE)
FIGURES = (
    SHEET, INK, FAINT_INK, CONTROL, BAND, GRID, AXIS, LEADER, NO_MAP, NO_MAP_EDGE, BRIGHT, OUTLINE_EDGE, *NETWORKS,
)  # fmt: skip

# The page.
PAGE = (
    Colour("paper", "#ffffff", "#15181c"),
    Colour("text", "#1f2328", "#e4e7ea"),
    Colour("soft", "#59636e", "#a2abb5"),
    Colour("line", "#d9dee3", "#363d45"),
    Colour("tint", "#f5f7f9", "#1e2329"),
    Colour("own", "#fdf1ea", "#38281e"),
    Colour("link", "#0058a3", "#7cbcf5"),
    Colour("ahead", "#00694b", "#4fc9a0"),
    Colour("behind", "#a63d00", "#f79a66"),
    SHEET,
)


def css_variables(colours: Iterable[Colour]) -> str:
    """Declare colours as CSS variables ("--ink"), for light and for dark mode."""
    colours = list(colours)
    light = "".join(f"--{colour.name}:{colour};" for colour in colours)
    dark = "".join(f"--{colour.name}:{colour.dark};" for colour in colours)
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
