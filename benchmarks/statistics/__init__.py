"""From per-image scores to what can be said of them. One subject a file; nothing here knows torch or the report.

Rows of a table share their resampling, so that explainers judged on the same images are drawn alike.
"""

from __future__ import annotations

from benchmarks.statistics.ablations import (
    ABLATION_COLUMNS,
    SHIFT_COLUMNS,
    SUITED_COLUMNS,
    ablations,
    at_best,
    rank_shifts,
)
from benchmarks.statistics.examples import Example, examples, telling_metric
from benchmarks.statistics.gate import GATE_COLUMNS, failing, gate
from benchmarks.statistics.intervals import RESAMPLES, bootstrap_ci, hierarchical_ci
from benchmarks.statistics.paired import PAIRED_COLUMNS, holding, holm, paired_differences, signed_rank
from benchmarks.statistics.ranks import (
    INTERVAL_COLUMNS,
    RANK_COLUMNS,
    RankTest,
    critical_difference,
    mean_ranks,
    rank_intervals,
    rank_test,
)
from benchmarks.statistics.relative import RELATIVE_COLUMNS, relative_scores
from benchmarks.statistics.reliability import AGREEMENT_COLUMNS, RELIABILITY_COLUMNS, agreement, reliability
from benchmarks.statistics.scores import described, is_ranked, per_image, widened
from benchmarks.statistics.sizes import SIZE_COLUMNS, SIZES, by_size, size_bins
from benchmarks.statistics.summary import COLUMNS, rank_means, summarise
from benchmarks.store.score_names import COST, REFERENCES, transform_of

__all__ = [
    "ABLATION_COLUMNS",
    "AGREEMENT_COLUMNS",
    "COLUMNS",
    "COST",
    "GATE_COLUMNS",
    "INTERVAL_COLUMNS",
    "PAIRED_COLUMNS",
    "RANK_COLUMNS",
    "REFERENCES",
    "RELATIVE_COLUMNS",
    "RELIABILITY_COLUMNS",
    "RESAMPLES",
    "SHIFT_COLUMNS",
    "SIZES",
    "SIZE_COLUMNS",
    "SUITED_COLUMNS",
    "Example",
    "RankTest",
    "ablations",
    "agreement",
    "at_best",
    "bootstrap_ci",
    "by_size",
    "critical_difference",
    "described",
    "examples",
    "failing",
    "gate",
    "hierarchical_ci",
    "holding",
    "holm",
    "is_ranked",
    "mean_ranks",
    "paired_differences",
    "per_image",
    "rank_intervals",
    "rank_means",
    "rank_shifts",
    "rank_test",
    "relative_scores",
    "reliability",
    "signed_rank",
    "size_bins",
    "summarise",
    "telling_metric",
    "transform_of",
    "widened",
]  # fmt: skip
