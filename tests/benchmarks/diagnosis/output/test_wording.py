"""Numbers and sentences as a reader sees them."""

from __future__ import annotations

import pytest
from helpers.diagnoses import diagnosis, effect, estimate, finding

from benchmarks.diagnosis.finding import Estimate, Status, Verdict
from benchmarks.diagnosis.output import wording

pytestmark = pytest.mark.slow


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0, "0.000"), (0.0123, "0.012"), (-1.5, "−1.50"), (12.345, "12.3"),
     (1234.5, "1,234"), (0.00012, "1.2e−04")],
)  # fmt: skip
def test_numbers(value: float | None, text: str) -> None:
    assert wording.number(value) == text


@pytest.mark.parametrize(("p", "text"), [(None, "–"), (0.0004, "< 0.001"), (0.0321, "0.032"), (1.0, "1.000")])
def test_p(p: float | None, text: str) -> None:
    assert plain(wording.p_value(p)) == text


def test_estimates_have_intervals_where_they_are_known() -> None:
    assert wording.change(estimate(-0.41)) == "−0.41 [−0.46, −0.36]"
    assert plain(wording.share(estimate(0.6))) == "60 % [55, 65]"
    assert wording.change(Estimate(value=0.5, n=1)) == "+0.50"
    assert wording.change(Estimate(value=-0.001, n=1)) == "0.00"


def test_the_sentence_of_a_cause_is_about_the_strongest_effect() -> None:
    sentence = plain(wording.cause_sentence(finding(effects=(effect(-0.1), effect(0.3, action="add")))))
    assert "+0.30 [+0.25, +0.35]" in sentence
    assert "n = 40" in sentence
    assert wording.strongest(finding()) is None
    assert wording.cause_sentence(finding())


def test_counts() -> None:
    counts = {Status.failed: 1, Status.warned: 1, Status.passed: 2, Status.not_run: 1}
    assert wording.count_statuses(diagnosis()) == counts
    assert [item.verdict for item in wording.confirmed(diagnosis().findings)] == [Verdict.cause] * 2
    assert wording.headline(diagnosis()).startswith("2 ")
    assert wording.headline(diagnosis(findings=())).startswith("No ")
    assert wording.plural(1, "check") == "1 check"
