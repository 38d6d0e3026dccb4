"""Compare LAP without knowledge with its plain twin on images with a shortcut.

Command: `interp-bench study fragility`. Both networks have the same initial weights, order of images and recipe, and
neither is told of the tag. The study measures whether attention makes a network follow the tag more than its twin does,
with and without `attention_gradient` and terms on labels, and whether accuracy on images without tags is the same.

It writes one row per arm and seed into results/method/fragility_<data>.csv, so that a stopped study continues, a table
in .md and the provenance in .json. Data, training and columns are those of `benchmarks.studies.shortcut.study`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from benchmarks.store.atomic import write_atomically
from benchmarks.store.markdown import markdown_table
from benchmarks.store.provenance import write_provenance
from benchmarks.studies.shortcut.arms import ARMS, LABEL_TERMS, ShortcutArm
from benchmarks.studies.shortcut.report import LEVEL, accuracy_gap, format_percent
from benchmarks.studies.shortcut.study import OUTPUT, RECIPES, load_forms, select_arms, train_arms
from interp_core.errors import StoreError
from interp_core.knowledge import OwnOrder
from interp_core.training import DEFAULT_TERMS
from interp_core.training.fit import OWN_SHARE

COMMAND = "interp-bench study fragility"
COLUMNS = (
    "arm",
    "seeds",
    "twin",
    "tags random %",
    "to the twin",
    "tags removed %",
    "to the twin",
    "follows %",
    "on the tag %",
)
HEAD = """# LAP and its plain twin: {data}

Mean, and half the {level:.0%} t-interval over training seeds. Made by `{command}`.

* twin: the network of the same seed that the arm is compared with, in pairs; positive is better than the twin.
* tags random: accuracy on test images whose tag is random; *tags removed*: on the same images without.
* follows: test images with a disagreeing tag that are given the tag's class.
* on the tag: share of the map on the tag, where the tag agrees; the tag covers {area:.2%} of an image.

"""
FIT_TERMS = (*DEFAULT_TERMS, OwnOrder(share=OWN_SHARE))
_BY_NAME = {arm.name: arm for arm in ARMS}
_LAP = _BY_NAME["lap"]

# In the order of the table.
FRAGILITY_ARMS: tuple[ShortcutArm, ...] = (
    _BY_NAME["plain_clean"],
    replace(_LAP, name="lap_clean", title="LAP, trained without tags", clean=True),
    _BY_NAME["plain"],
    replace(_LAP, title="LAP, no terms"),
    replace(_LAP, name="lap_labels", title="LAP, Presence, Absence, Area", terms=LABEL_TERMS),
    replace(_LAP, name="lap_default", title="LAP, default terms of `fit`", terms=FIT_TERMS),
    replace(_LAP, name="lap_through", title="LAP, no terms, attention_gradient", attention_gradient=True),
    replace(
        _LAP,
        name="lap_labels_through",
        title="LAP, Presence, Absence, Area, attention_gradient",
        terms=LABEL_TERMS,
        attention_gradient=True,
    ),
    _BY_NAME["lap_exchange_found"],
)
# The designer's control is compared with the network that never saw a tag, all others with the twin of the same images.
TWINS = {"lap_clean": "plain_clean", "lap_exchange_found": "plain_clean"}
REFERENCES = ("plain_clean", "plain")


def run(
    data: str = "digits",
    root: Path = Path("tinyimagenet20.tar"),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    names: Sequence[str] = (),
    count: int | None = None,
    epochs: int | None = None,
    output: Path = OUTPUT,
    report_only: bool = False,
) -> list[Path]:
    """Train and report; arguments are those of `benchmarks.studies.shortcut.study.run`."""
    path, selection = output / f"fragility_{data}.csv", select_arms(names, FRAGILITY_ARMS)
    if report_only:
        return [write_table(path)]
    forms, recipe = load_forms(data, root, count), RECIPES[data]
    recipe = recipe if epochs is None else recipe.model_copy(update={"epochs": epochs})
    train_arms(recipe, data, forms, selection, seeds, path)
    arms = [arm.describe() for arm in FRAGILITY_ARMS]
    facts = {"arms": arms, "recipe": recipe.model_dump(), "threads": torch.get_num_threads()}
    provenance = write_provenance(path.with_suffix(".json"), facts, command=f"{COMMAND} --data {data}")
    return [path, provenance, write_table(path)]


def write_table(path: Path) -> Path:
    """Write the table beside the rows.

    Raises:
        StoreError: there are no rows.
    """
    if not path.is_file():
        raise StoreError(f"{path} does not exist: train first, without --report")
    return write_atomically(path.with_suffix(".md"), to_markdown(pd.read_csv(path, dtype={"commit": str})))


def to_markdown(rows: pd.DataFrame) -> str:
    """Format the table, arms in the order of `FRAGILITY_ARMS`."""
    data, names = rows.data.iloc[0], set(rows.arm)
    head = HEAD.format(data=data, level=LEVEL, command=f"{COMMAND} --data {data}", area=rows.tag_area.mean())
    cells = [_cells(arm, rows) for arm in FRAGILITY_ARMS if arm.name in names]
    return head + markdown_table(pd.DataFrame(cells, columns=COLUMNS)) + "\n"


def _cells(arm: ShortcutArm, rows: pd.DataFrame) -> list[str]:
    arm_rows = rows[rows.arm == arm.name]
    twin = "" if arm.name in REFERENCES else TWINS.get(arm.name, "plain")

    def gap(column: str) -> str:
        return format_percent(accuracy_gap(rows, arm.name, twin, column), sign=True) if twin else ""

    return [
        arm.title,
        str(len(arm_rows)),
        _BY_NAME[twin].title if twin else "",
        format_percent(arm_rows.accuracy),
        gap("accuracy"),
        format_percent(arm_rows.accuracy_clean),
        gap("accuracy_clean"),
        "" if arm.clean else format_percent(arm_rows.follows),
        format_percent(arm_rows.tag_map),
    ]
