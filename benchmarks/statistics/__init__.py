"""Statistics of a run: from per-image scores to means, ranks, intervals and tests. One subject a file.

Nothing here imports torch or the report. All rows of a table share one `Resampling`, so explainers judged on the same
images are drawn alike.
"""

from __future__ import annotations

from benchmarks.statistics.examples import Example, examples, most_reliable_metric
from benchmarks.statistics.gate import GATE_COLUMNS, gate, gate_failures
from benchmarks.statistics.intervals import DEFAULT, Resampling, bootstrap_ci, hierarchical_ci
from benchmarks.statistics.paired import PAIRED_COLUMNS, count_significant, holm, paired_differences, signed_rank
from benchmarks.statistics.pairs import PAIR_COLUMNS, pair_shares, summarise_pair
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
from benchmarks.statistics.scores import by_name, is_ranked, per_image, to_wide
from benchmarks.statistics.sizes import SIZE_COLUMNS, SIZES, by_size, size_bins
from benchmarks.statistics.summary import COLUMNS, rank_means, summarise
from benchmarks.statistics.transform_effects import (
    BEST_TRANSFORM_COLUMNS,
    EFFECT_COLUMNS,
    RANK_CHANGE_COLUMNS,
    best_transforms,
    rank_changes,
    transform_effects,
)
from benchmarks.store.score_names import COST, REFERENCES, transform_of

__all__ = [
    "AGREEMENT_COLUMNS",
    "BEST_TRANSFORM_COLUMNS",
    "COLUMNS",
    "COST",
    "DEFAULT",
    "EFFECT_COLUMNS",
    "GATE_COLUMNS",
    "INTERVAL_COLUMNS",
    "PAIRED_COLUMNS",
    "PAIR_COLUMNS",
    "RANK_CHANGE_COLUMNS",
    "RANK_COLUMNS",
    "REFERENCES",
    "RELATIVE_COLUMNS",
    "RELIABILITY_COLUMNS",
    "SIZES",
    "SIZE_COLUMNS",
    "Example",
    "RankTest",
    "Resampling",
    "agreement",
    "best_transforms",
    "bootstrap_ci",
    "by_name",
    "by_size",
    "count_significant",
    "critical_difference",
    "examples",
    "gate",
    "gate_failures",
    "hierarchical_ci",
    "holm",
    "is_ranked",
    "mean_ranks",
    "most_reliable_metric",
    "pair_shares",
    "paired_differences",
    "per_image",
    "rank_changes",
    "rank_intervals",
    "rank_means",
    "rank_test",
    "relative_scores",
    "reliability",
    "signed_rank",
    "size_bins",
    "summarise",
    "summarise_pair",
    "to_wide",
    "transform_effects",
    "transform_of",
]
