"""Check for labels that are probably wrong.

Confident learning (cleanlab) compares labels with the network's probabilities: an image is suspected where its label
and a confident answer differ. The network may be the one that is wrong, so the number is compared with what an
ambiguous task gives by itself. Labels are modelled as

    P(label) = (1 - e) softmax(log p / T) + e / (K - 1) elsewhere

with temperature T and share e of random labels, fitted together. p is that of the likelihood ratio against e = 0 (half
a chi-squared distribution, as e is at its bound), and the null is the number of suspected labels where labels are
drawn from the fitted network with e = 0.

Source: Northcutt, Jiang and Chuang (2021), cleanlab.

Limits: probabilities must be out of sample. On images the network was trained on, it agrees with wrong labels too, and
few are found. Where accuracy exceeds `TRAINED`, the shares of labels among the nearest images in feature space take the
place of probabilities. A network with confident mistakes looks like wrong labels: look at the images.
"""

from __future__ import annotations

import warnings
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from PIL.Image import Image
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import chi2

from benchmarks.diagnosis.check import Check, CheckResult, Context, Suspect, checks
from benchmarks.diagnosis.evidence import Evidence
from benchmarks.diagnosis.finding import Condition, Status
from benchmarks.diagnosis.output.drawing import draw, draw_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRAINED = 0.98  # accuracy above which images are taken for training images
NEIGHBOURS = 10
REFERENCES = 20_000  # images among which neighbours are sought
SMOOTHING = 0.1  # images that are added to the neighbours, of all labels alike
DIMENSIONS = 32  # of features for neighbours
DRAWS = 5  # of labels under the null
SMALL = 1e-6
MAIN = 0.2  # share of the suspected labels from which a class is named


@checks.register("labels")
class Labels(Check):
    """Labels that are probably wrong.

    Fields:
        threshold: share of wrong labels above chance at which the check fails.
        notable: share at which it warns.
    """

    title = "Suspected label errors"
    needs = ("labels", "several classes")
    source = "cleanlab; Northcutt et al. 2021"

    threshold: float = Field(0.05, ge=0, le=1)
    notable: float = Field(0.005, ge=0, le=1)

    def run(self, evidence: Evidence, context: Context) -> CheckResult:
        """Rank labels, and compare their number with that of an ambiguous task."""
        try:
            import cleanlab.filter  # noqa: F401
        except ImportError:
            return CheckResult("", reason="cleanlab is not installed: pip install 'interp-bench[diagnosis]'")
        labels, is_trained = evidence.labels, float(evidence.correct.mean()) > TRAINED
        probabilities = neighbour_shares(evidence, context) if is_trained else evidence.probabilities
        issues = find_issues(labels, probabilities)
        expected, p = compare_with_ambiguity(labels, probabilities, context.generator)
        n, null = len(evidence), expected / len(evidence)
        suggested = (probabilities - np.eye(probabilities.shape[1])[labels] * 2).argmax(1)
        excess = max(0.0, len(issues) / n - null) if p <= self.alpha else 0.0
        means = "labels of the nearest images" if is_trained else "the network's answers"
        return CheckResult(
            sentence=f"{len(issues)} of {n} labels are suspected by {means}; {expected:.0f} are expected by chance.",
            conditions=(self._condition(excess, p),),
            suspects=self._suspects(evidence, issues, suggested, null, p) if excess >= self.notable else (),
            value=len(issues) / n,
            null=null,
            p=p,
            picture=_picture(evidence, issues, suggested),
        )

    def _condition(self, excess: float, p: float) -> Condition:
        status = (
            Status.failed if excess >= self.threshold else Status.warned if excess >= self.notable else Status.passed
        )
        detail = f"{excess:.1%} above chance (p {p:.3f})"
        return Condition(name=f"wrong labels above chance < {self.threshold:.0%}", status=status, detail=detail)

    def _suspects(
        self, evidence: Evidence, issues: np.ndarray, suggested: np.ndarray, null: float, p: float
    ) -> tuple[Suspect, ...]:
        shares = np.bincount(evidence.labels[issues], minlength=len(evidence.classes)) / max(1, len(issues))
        classes = tuple(int(cls) for cls in np.argsort(-shares, kind="stable") if shares[cls] >= MAIN)
        pairs = _pairs(evidence, issues, suggested)
        first = f", most often {pairs[0][0]}" if pairs else ""
        return (
            Suspect(
                key="labels",
                title=f"{len(issues)} labels are probably wrong{first}",
                classes=classes,
                members=issues,
                value=len(issues) / len(evidence),
                null=null,
                p=p,
                in_data=True,
                grounds=("labels and confident answers differ more often than in an ambiguous task", "not tested"),
                details={f"{name}": count for name, count in pairs[:5]},
            ),
        )


def find_issues(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return positions of suspected labels (m,), worst first, by confident learning."""
    from cleanlab.filter import find_label_issues

    present = np.unique(labels)
    if len(present) < 2:
        return np.empty(0, np.int64)
    codes, chosen = np.searchsorted(present, labels), np.clip(probabilities[:, present].astype(np.float64), SMALL, 1)
    chosen /= chosen.sum(1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on classes with few images, of which it does not judge all
        issues = find_label_issues(codes, chosen, return_indices_ranked_by="self_confidence", n_jobs=1)
    return np.asarray(issues, np.int64)


def compare_with_ambiguity(
    labels: np.ndarray, probabilities: np.ndarray, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the number of issues that an ambiguous task gives, and the p of more than that."""
    logits = np.log(np.clip(probabilities.astype(np.float64), SMALL, 1))
    calm, loss = fit_noise(logits, labels, with_noise=False)
    noisy, loss_with_noise = fit_noise(logits, labels, with_noise=True)
    p = 0.5 * float(chi2.sf(max(0.0, 2 * (loss - loss_with_noise)), 1))
    temperature = noisy if p <= 0.5 and loss_with_noise < loss else calm
    cumulative = softmax(logits / temperature, 1).cumsum(1)
    numbers = []
    for _ in range(DRAWS):
        drawn = (cumulative[:, :-1] < rng.random((len(labels), 1))).sum(1)
        numbers.append(len(find_issues(drawn, probabilities)))
    return float(np.mean(numbers)), p


def fit_noise(logits: np.ndarray, labels: np.ndarray, *, with_noise: bool) -> tuple[float, float]:
    """Fit temperature and share of random labels; return the temperature and the negative log-likelihood."""
    rows, others = np.arange(len(labels)), max(1, logits.shape[1] - 1)

    def loss(parameters: np.ndarray) -> float:
        noise = parameters[1] if with_noise else 0.0
        likelihood = softmax(logits / np.exp(parameters[0]), 1)[rows, labels]
        mixed = (1 - noise) * likelihood + noise * (1 - likelihood) / others
        return float(-np.log(np.maximum(mixed, SMALL**2)).sum())

    start, bounds = ([0.0, 0.02], [(-3, 3), (0, 0.5)]) if with_noise else ([0.0], [(-3, 3)])
    result = minimize(loss, np.array(start), bounds=bounds, method="L-BFGS-B")
    return float(np.exp(result.x[0])), float(result.fun)


def neighbour_shares(evidence: Evidence, context: Context) -> np.ndarray:
    """Compute the shares (N, K) of labels among the nearest other images in feature space."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestNeighbors

    features = evidence.features.astype(np.float32)
    features = PCA(min(DIMENSIONS, *features.shape), random_state=context.seed).fit_transform(features)
    references = np.sort(context.generator.permutation(len(features))[:REFERENCES])
    k = min(NEIGHBOURS, len(references) - 1)
    near = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(features[references])
    indices = references[near.kneighbors(features, return_distance=False)]
    is_self = indices == np.arange(len(features))[:, None]
    is_self[~is_self.any(1), -1] = True  # the farthest takes the place of an image that is no reference
    votes = evidence.labels[indices[~is_self].reshape(len(features), k)]
    shares = np.stack([(votes == cls).mean(1) for cls in range(len(evidence.classes))], 1)
    return (shares * k + SMOOTHING / shares.shape[1]) / (k + SMOOTHING)


def _pairs(evidence: Evidence, issues: np.ndarray, suggested: np.ndarray) -> list[tuple[str, int]]:
    """Count suspected labels by label and suggestion, the most frequent first."""
    names = evidence.classes
    pairs = Counter(f"{names[evidence.labels[i]]!r} that looks like {names[suggested[i]]!r}" for i in issues)
    return pairs.most_common()


def _picture(evidence: Evidence, issues: np.ndarray, suggested: np.ndarray) -> Image | None:
    pairs = _pairs(evidence, issues, suggested)[:8]
    if not pairs:
        return None
    counts = np.array([count for _, count in pairs], np.float64)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        draw_bars(axes, [name for name, _ in pairs], counts, np.zeros(len(pairs), bool), 0)
        axes.set_title("suspected labels")

    return draw(paint)
