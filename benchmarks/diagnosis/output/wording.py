"""Numbers and findings in words, for the page and the command line.

A minus is "−" and an unknown value is "–". Changes of probability are in [-1, 1], shares are in percent.
"""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.diagnosis.finding import Diagnosis, Effect, Estimate, Finding, Status, Verdict
from benchmarks.diagnosis.intervention import deciding, is_cause

DASH = "–"
NO_BREAK = "\N{NO-BREAK SPACE}"
SMALLEST_P = 0.001
ACTIONS = {
    "remove": "Removing it",
    "add": "Adding it to images of other classes",
    "swap": "Swapping it between classes",
    "shift": "Shifting it in the whole image",
}
MARKS = {True: "yes", False: "no", None: "not tested"}


def number(value: float | None, digits: int = 3) -> str:
    """Format a number with three significant digits or more: "0.0123", "12.3", "1,230"."""
    if value is None or value != value:
        return DASH
    size = abs(value)
    decimals = digits if size < 1 else max(0, digits - len(str(int(size))))
    text = f"{value:,.{decimals}f}" if size == 0 or size >= 10.0**-digits else f"{value:.1e}"
    return _with_minus(text)


def p_value(p: float | None) -> str:
    """Format a p: "0.032", or a bound below 0.001."""
    if p is None or p != p:
        return DASH
    return f"<{NO_BREAK}{SMALLEST_P}" if p < SMALLEST_P else f"{p:.3f}"


def change_parts(estimate: Estimate) -> tuple[str, str]:
    """Format a change of probability and its interval: "−0.41" and "[−0.46, −0.36]", or "" without one."""
    return _parts(estimate, "{:+.2f}", 1)


def share_parts(estimate: Estimate) -> tuple[str, str]:
    """Format a share and its interval: "60 %" and "[55, 65]", or "" without one."""
    value, interval = _parts(estimate, "{:.0f}", 100)
    return f"{value}{NO_BREAK}%", interval


def change(estimate: Estimate) -> str:
    """Format a change of probability with its interval: "−0.41 [−0.46, −0.36]"."""
    return " ".join(change_parts(estimate)).strip()


def share(estimate: Estimate) -> str:
    """Format a share with its interval: "60 % [55, 65]"."""
    return " ".join(share_parts(estimate)).strip()


def percent(value: float | None) -> str:
    """Format a share: "83.1 %"."""
    return DASH if value is None or value != value else f"{100 * value:.1f}{NO_BREAK}%"


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: "1 check", "3 checks"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def strongest(finding: Finding) -> Effect | None:
    """Return the effect that differs most from its control, that of a cause before others."""
    return max(
        deciding(finding.effects), key=lambda effect: (is_cause(effect), abs(effect.difference.value)), default=None
    )


def cause_sentence(finding: Finding) -> str:
    """Say in one sentence what the strongest intervention does."""
    effect = strongest(finding)
    if effect is None:
        return "No intervention was possible."
    facts = [f"control {change(effect.control_change)}", f"n{NO_BREAK}={NO_BREAK}{effect.change.n}"]
    facts += [] if effect.p_holm is None else [f"p{NO_BREAK}{_p_with_sign(effect.p_holm)}"]
    return (
        f"{ACTIONS[effect.action]} changes the probability of {effect.cls} by {change(effect.change)} "
        f"({', '.join(facts)}) and flips {share(effect.flips)} of the answers."
    )


def confirmed(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that interventions confirmed."""
    return [finding for finding in findings if finding.verdict is Verdict.cause]


def count_statuses(diagnosis: Diagnosis) -> dict[Status, int]:
    """Count the checks by status, worst first; statuses without a check are left out."""
    order = (Status.failed, Status.warned, Status.passed, Status.not_run)
    counts = {status: sum(check.status is status for check in diagnosis.checks) for status in order}
    return {status: count for status, count in counts.items() if count}


def headline(diagnosis: Diagnosis) -> str:
    """Say how many causes were confirmed."""
    causes = len(confirmed(diagnosis.findings))
    return f"{plural(causes, 'cause')} confirmed by intervention" if causes else "No cause confirmed by intervention"


def _parts(estimate: Estimate, form: str, scale: float) -> tuple[str, str]:
    value, *ends = (
        None if figure is None else _with_minus(form.format(scale * figure))
        for figure in (estimate.value, estimate.low, estimate.high)
    )
    return value or DASH, "" if None in ends else f"[{ends[0]}, {ends[1]}]"


def _p_with_sign(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"={NO_BREAK}{text}"


def _with_minus(text: str) -> str:
    """Replace hyphens by minus signs, and "-0.00" and "+0.00" by "0.00"."""
    text = text if text.strip("+-0.,") else text.lstrip("+-")
    return text.replace("-", "−")
