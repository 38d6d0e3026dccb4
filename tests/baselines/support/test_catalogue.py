"""Facts of explainers from their docstrings, and the table made of them."""

from __future__ import annotations

import pytest

from baselines import Explainer, explainers
from baselines.support.catalogue import LABELS, labelled_facts, table

OWN = {name: cls for name, cls in explainers.items() if cls.__module__.startswith("baselines.")}


@pytest.mark.parametrize("name", OWN)
def test_its_docstrings_have_every_label(name: str) -> None:
    facts = labelled_facts(OWN[name])
    assert tuple(facts) == LABELS
    assert all(text.endswith(".") for text in facts.values())


def test_a_row_has_what_the_class_and_its_file_say() -> None:
    rows = [line for line in table(OWN).splitlines() if line.startswith("| `")]
    assert len(rows) == len(OWN)
    row = next(line for line in rows if line.startswith("| `integrated_gradients`"))
    assert "| Integrated Gradients | Sundararajan et al. 2017; captum IntegratedGradients |" in row
    assert "| 50 forwards, 50 backwards |" in row
    assert rows[-1].startswith("| `smoothed_random`")


def test_controls_of_one_file_have_rows_of_their_own() -> None:
    rows = {line.split("`")[1]: line for line in table(OWN).splitlines() if line.startswith("| `")}
    assert rows["mask"].endswith("| data sets without evidence masks: refused |")
    assert rows["edges"].endswith("| nowhere refused |")
    assert labelled_facts(OWN["edges"])["Idea"] != labelled_facts(OWN["random"])["Idea"]


def test_an_explainer_without_a_head_has_a_row_all_the_same() -> None:
    class Bare(Explainer):
        pass

    assert labelled_facts(Bare) == {}
    assert "| `bare` |" in table({"bare": Bare})
