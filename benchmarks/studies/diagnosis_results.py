"""Tables of the page of results about pairs of networks, planted causes and the skin lesions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.store.markdown import markdown_table
from benchmarks.studies.planted.repair_report import repair_table
from benchmarks.studies.planted.report import USED, alarms, by_cause, recalls

PLANTED, UNTOUCHED = Path("diagnosis/planted.csv"), Path("diagnosis/untouched/planted.csv")
VERDICTS = ("cause", "bystander", "unconfirmed")
SHOWN_FINDINGS = 6  # of each network
FACES = "male"  # name of the network of faces
SHOWN_REPAIRS = {
    "none": "before",
    "distil": "exchange, answers kept",
    "exchange": "exchange",
    "inpaint": "in-painting",
    "last_layer": "last layer",
}


def diagnosis_context(results: Path) -> dict[str, Any]:
    """Return what the page says about diagnoses: tables as Markdown, and numbers for sentences."""
    planted, untouched = pd.read_csv(results / PLANTED), pd.read_csv(results / UNTOUCHED)
    lesions = pd.read_csv(results / "diagnosis" / "lesions.csv")
    findings = pd.read_csv(results / "diagnosis" / "lesions_findings.csv")
    alarm = alarms(planted).set_index("method")
    return {
        "recall_table": markdown_table(_rounded(recalls(planted))),
        "cause_table": markdown_table(by_cause(planted)),
        "alarm_table": markdown_table(_rounded(alarms(planted))),
        "untouched_recall": markdown_table(_rounded(recalls(untouched))),
        "untouched_causes": markdown_table(by_cause(untouched)),
        "untouched_alarms": markdown_table(_rounded(alarms(untouched))),
        "untouched_strict": strict_alarms(untouched),
        "precision": float(alarm["precision"].to_dict()["diagnose"]),
        "strict": strict_alarms(planted),
        "networks": int(planted["seed"].size / planted["method"].nunique()),
        "pair_table": pair_table(results),
        "planted_pairs": planted_pair_table(results),
        "lesion_table": lesion_table(lesions),
        "repaired": sorted(pd.read_csv(results / "diagnosis" / "repairs.csv")["cause"].unique()),
        "repair_table": markdown_table(_rounded(repair_table(pd.read_csv(results / "diagnosis" / "repairs.csv")))),
        "found": findings[findings["network"] == "user"].iloc[0].to_dict(),
        **trained_context(results),
    }


def trained_context(results: Path) -> dict[str, Any]:
    """Return what the page says about networks that others trained: their findings and their groups."""
    findings = pd.read_csv(results / "diagnosis" / "trained_findings.csv")
    facts = json.loads((results / "diagnosis" / "trained.json").read_text(encoding="utf-8"))
    counts = [
        f"{name}: {', '.join(f'{int((rows == verdict).sum())} {verdict}' for verdict in VERDICTS)}"
        for name, rows in findings.groupby("network", sort=False)["verdict"]
    ]
    return {
        "trained_counts": "; ".join(counts),
        "trained_table": trained_table(findings),
        "trained_groups": trained_groups(pd.read_csv(results / "diagnosis" / "trained_groups.csv")),
        "trained_images": facts["images"],
        "trained_faces": FACES in set(findings["network"]),
    }


def trained_table(findings: pd.DataFrame) -> str:
    """Write the first findings of each network that an intervention was possible on as a Markdown table."""
    examined = findings[findings["difference"].notna()].groupby("network", sort=False).head(SHOWN_FINDINGS)
    rows = pd.DataFrame({
        "network": examined["network"],
        "no.": examined["number"],
        "finding": examined["title"],
        "confirmed": examined["verdict"].map({"cause": "yes", "bystander": "no"}),
        "intervention": examined["action"],
        "difference to its control": [
            f"{value:+.2f} ({low:+.2f} to {high:+.2f})"
            for value, low, high in examined[["difference", "low", "high"]].to_numpy().tolist()
        ],
        "answers changed, %": _percent(examined["flips"]),
        "by the control, %": _percent(examined["control flips"]),
        "images": examined["n"].astype(int),
    })  # fmt: skip
    collars = examined["collar overlap"]
    if collars.notna().any():
        rows["overlap with collars"] = [f"{value:.2f}" if pd.notna(value) else "" for value in collars]
    return markdown_table(rows, list(rows.columns[5:]))


def trained_groups(groups: pd.DataFrame) -> str:
    """Write the accuracy of each group as a Markdown table."""
    rows = pd.DataFrame({
        "network": groups["network"],
        "group": groups["group"],
        "images": groups["images"],
        "right, %": [
            f"{value:.0f} ({low:.0f} to {high:.0f})"
            for value, low, high in (100 * groups[["accuracy", "low", "high"]]).to_numpy().tolist()
        ],
    })  # fmt: skip
    return markdown_table(rows, list(rows.columns[2:]))


def _percent(values: pd.Series) -> list[str]:
    return [f"{100 * value:.0f}" for value in values]


def idle_networks(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the diagnosis on networks that use no planted cause."""
    return rows[(rows["method"] == "diagnose") & (rows["role"] != "planted") & ~(rows["use"] >= USED)]


def strict_alarms(rows: pd.DataFrame) -> str:
    """Return how many networks without a cause have a confirmed one, as "2 of 59"."""
    idle = idle_networks(rows)
    return f"{int((idle['confirmed'] > 0).sum())} of {len(idle)}"


def diagnosis_sentence(results: Path) -> str:
    """Write what the README says about findings: networks that nobody looked at, and the best rival elsewhere."""
    untouched = pd.read_csv(results / UNTOUCHED)
    rows, rivals = (_both_scopes(table) for table in (untouched, pd.read_csv(results / PLANTED)))
    (recall,), (networks,) = rows["recall@3"], rows["networks"]
    best = rivals["recall@3"][rivals["method"] != "diagnose"].max()
    return (
        f"In {100 * recall:.0f} % of {networks} networks that use a planted cause it is among the "
        f"first three findings (best rival, other seeds: {100 * best:.0f} %). Of the networks that use none, "
        f"{strict_alarms(untouched)} have a confirmed cause."
    )


def _both_scopes(rows: pd.DataFrame) -> pd.DataFrame:
    """Return recall by method over both scopes of a cue."""
    table = recalls(rows)
    return table[table["scope"] == "both"]


def planted_pair_table(results: Path) -> str:
    """Write how each explainer tells planted pairs apart, the mean over the pairs, as a Markdown table."""
    from baselines import explainers

    table = pd.read_csv(results / "method" / "pairs" / "tables" / "pairs.csv")
    means = table.groupby("explainer")[["user", "twin", "ratio", "ahead"]].mean().sort_values("ratio", ascending=False)
    rows = pd.DataFrame({
        "explainer": [explainers[str(name)].title for name in means.index],
        "share on the cue, user": means["user"].to_numpy(),
        "twin": means["twin"].to_numpy(),
        "ratio, geometric mean": [f"{value:.1f}" for value in means["ratio"]],
        "user ahead, % of images": [f"{100 * value:.0f}" for value in means["ahead"]],
    })  # fmt: skip
    return markdown_table(_rounded(rows), list(rows.columns[1:]))


def pair_table(results: Path) -> str:
    """Write how each explainer tells the two networks of the skin lesions apart, as a Markdown table."""
    from baselines import explainers

    table = pd.read_csv(results / "pairs" / "lesions_summary.csv")
    rows = pd.DataFrame({
        "explainer": [explainers[name].title for name in table["explainer"]],
        "share on the patch, user": table["user"],
        "twin": table["twin"],
        "ratio, geometric mean": [
            f"{row.ratio:.2f} ({row.ratio_low:.2f} to {row.ratio_high:.2f})" for row in table.itertuples()
        ],
        "user ahead, % of images": [f"{100 * value:.0f}" for value in table["ahead"]],
    })  # fmt: skip
    order = table["ratio"].sort_values(ascending=False).index
    return markdown_table(_rounded(rows.loc[order]), list(rows.columns[1:]))


def lesion_table(rows: pd.DataFrame) -> str:
    """Write the held-out answers before and after each repair as a Markdown table."""
    lines = []
    for (network, repair), group in rows.groupby(["network", "repair"], sort=False):
        title = f"uses the patches, {SHOWN_REPAIRS[str(repair)]}" if network == "user" else "twin, never saw them"
        lines.append({
            "network": title,
            "repairs": str(len(group)) if repair != "none" else "",
            "melanomas a patch turns benign, %": _mean(group["flips"], 100),
            "mean colour instead, %": _mean(group["control_flips"], 100),
            "AUROC": _mean(group["auroc"], 1),
        })  # fmt: skip
    table = pd.DataFrame(lines)
    return markdown_table(table, list(table.columns[1:]))


def _mean(values: pd.Series, scale: float) -> str:
    """Format a mean, with its range where there are several values."""
    digits = 0 if scale > 1 else 3
    text = f"{scale * values.mean():.{digits}f}"
    if len(values) < 2:
        return text
    return f"{text} ({scale * values.min():.{digits}f} to {scale * values.max():.{digits}f})"


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    numbers = table.select_dtypes("float").columns
    shown = table.copy()
    for name in numbers:
        shown[name] = [f"{value:.2f}" if pd.notna(value) else "" for value in table[name]]
    return shown
