"""Judge how much of their images the evidence of a data set covers.

Boxes in another unit, masks that are inverted and grey values with another meaning all read without an error. What they
cover tells: next to nothing, or everything.
Known limit: a share that is wrong but believable, such as that of boxes shifted by an offset, is not noticed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from interp_core.datasets import Finding

# Median shares outside these bounds are hardly those of objects: 0.1 % of 224 x 224 pixels is a square of 7 pixels.
LEAST, MOST = 0.001, 0.9


@dataclass(frozen=True)
class EvidenceShares:
    """Shares of images that their evidence covers, as the benchmark sees them.

    Attributes:
        shares: one for each decoded image that has a box or mask, in 0..1.
        with_evidence: images that have a box or mask, decoded or not.
    """

    shares: tuple[float, ...] = ()
    with_evidence: int = 0

    def describe(self) -> str:
        """Return one line about the shares."""
        if not self.with_evidence:
            return "no image has a box or mask"
        if not self.shares:
            return f"{self.with_evidence} images have a box or mask, but none of them was decoded"
        empty = sum(share == 0 for share in self.shares)
        line = (
            f"evidence covers {_percent(median(self.shares))} of an image in the median, "
            f"{_percent(min(self.shares))} to {_percent(max(self.shares))}, in {len(self.shares)} images"
        )
        return line + (f"; in {empty} of them it marks nothing" if empty else "")

    def findings(self) -> Iterator[Finding]:
        """Yield a finding if the evidence covers a share that is hardly that of objects."""
        if not self.shares:
            return
        middle = median(self.shares)
        if middle < LEAST:
            reason = "boxes may be in another unit or refer to another size, or masks use other values (mask_values)"
        elif middle > MOST:
            reason = "masks may be inverted, or their background is not 0 (mask_values)"
        else:
            return
        yield Finding("evidence share", f"{len(self.shares)} images", f"{_percent(middle)} in the median: {reason}")

    def is_believable(self) -> bool:
        """Return whether there is no evidence, or evidence that covers a believable share of its images."""
        return not self.with_evidence or (bool(self.shares) and not next(self.findings(), None))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
