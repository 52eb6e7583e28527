"""What the paper found, table by table, and whether it comes out here: counted in the results, each time anew.

Every claim is that one column errs less than some share of another. It is counted over settings (by medians),
over repetitions (seed by seed, draw by draw), and in the paper's own numbers.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

from latalign.experiments.plan import Labels
from latalign.experiments.report import setting
from latalign.experiments.results import Result, Table

_NEAR = 1.02  # what still counts as equal


@final
@dataclass(frozen=True, slots=True)
class Claim:
    """That `one` errs less than `limit` × `other`, both above the floor of their networks.

    Attributes
    ----------
    text : str
    one, other : str
        Columns of a table.
    limit : float
    theirs : str, optional
        The column whose number the paper has in the place of `other`; `other` unless given.
    where : callable, optional
        Which rows it is about; all of them unless given.
    """

    text: str
    one: str
    other: str
    limit: float = 1.0
    theirs: str | None = None
    where: Callable[[Labels], bool] = lambda row: True


@final
@dataclass(frozen=True, slots=True)
class _Case:
    """One setting: the ratio of the median errors, those of the repetitions, and that of the paper."""

    name: str
    ratio: float
    repetitions: tuple[float, ...]
    paper: float | None


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """A claim and how often it holds.

    Attributes
    ----------
    claim : Claim
    cases : tuple
        One a setting.
    """

    claim: Claim
    cases: tuple[_Case, ...]

    @property
    def verdict(self) -> str:
        """Whether it comes out as in the paper, setting by setting; of what the paper lacks, whether it holds."""
        if not self.cases:
            return "Not measured"
        theirs = [case for case in self.cases if case.paper is not None]
        if theirs:
            alike = sum(self._holds(case.ratio) is self._holds(case.paper) for case in theirs)
            return (
                "Reproduced"
                if alike == len(theirs)
                else "Not reproduced"
                if not alike
                else "In part reproduced"
            )
        held = self._held(self.cases)
        return "Holds" if held == len(self.cases) else "Does not hold" if not held else "Holds in part"

    def __str__(self) -> str:
        return " ".join((f"**{self.verdict}**: {self.claim.text}", *self._said()))

    def _said(self) -> Iterator[str]:
        theirs = [case for case in self.cases if case.paper is not None]
        others = [case for case in self.cases if case.paper is None]
        for cases, of in (
            (theirs, f"the paper's {len(theirs)} settings"),
            (others, f"{len(others)} {'other ' if theirs else ''}settings"),
        ):
            if not cases:
                continue
            once = [ratio for case in cases for ratio in case.repetitions]
            yield (
                f"In {self._held(cases)} of {of} ({sum(map(self._holds, once))} of {len(once)} repetitions); "
                f"{self.claim.one} / {self.claim.other}: {_range([case.ratio for case in cases])}."
            )
            against = [case.name for case in cases if not self._holds(case.ratio)]
            if against and len(against) < len(cases):
                yield f"Not with {'; '.join(against)}."
        if theirs:
            ratios = [case.paper for case in theirs if case.paper is not None]
            yield f"In the paper: {sum(map(self._holds, ratios))} of {len(ratios)}, {_range(ratios)}."

    def _holds(self, ratio: float | None) -> bool:
        return ratio is not None and ratio < self.claim.limit

    def _held(self, cases: Sequence[_Case]) -> int:
        return sum(self._holds(case.ratio) for case in cases)


def findings(table: Table) -> tuple[Finding, ...]:
    """Return the findings of a table."""
    return tuple(Finding(claim, tuple(_cases(table, claim))) for claim in CLAIMS[table.name])


def _cases(table: Table, claim: Claim) -> Iterator[_Case]:
    columns: dict[str, dict[tuple[tuple[str, str | int], ...], Result]] = {}
    for result in table.results:
        columns.setdefault(result.column, {})[tuple(result.row.items())] = result
    for row, one in columns.get(claim.one, {}).items():
        other = columns.get(claim.other, {}).get(row)
        if other is None or not (one.errors and other.errors and claim.where(one.row)):
            continue
        theirs = columns.get(claim.theirs or claim.other, {}).get(row)
        published = None if theirs is None or one.paper is None else theirs.paper
        yield _Case(
            _named(one.row),
            _ratio(one.median, other.median, one.floor),
            tuple(_ratio(a, b, one.floor) for a, b in _paired(one.errors, other.errors)),
            None if published is None else _ratio(one.paper or 0.0, published, one.floor),
        )


def _named(row: Labels) -> str:
    pair = next((str(row[key]) for key in ("networks", "direction") if key in row), "")
    return ", ".join(filter(None, (pair.replace("_to_", " → "), setting(row))))


def _ratio(one: float, other: float, floor: float) -> float:
    return (one - floor) / (other - floor)


def _paired(one: Sequence[float], other: Sequence[float]) -> list[tuple[float, float]]:
    """Pair errors of the same seed, and of the same draw of anchors where both have more than the first."""
    few, many = sorted((len(one), len(other)))
    if many % few:  # some failed, and nothing tells which of the others belong together
        return []
    return list(zip(one[:: len(one) // few], other[:: len(other) // few], strict=True))


def _range(ratios: Sequence[float]) -> str:
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    return f"{middle:.2f} in the median" + (f", {low:.2f} to {high:.3g}" if len(ratios) > 1 else "")


def _as_many(row: Labels) -> bool:
    return row["anchors"] == row["latent"]


def _few(row: Labels) -> bool:
    return row["anchors"] != "all"


_WIDTHS = (1, 2, 4)

CLAIMS: Mapping[str, tuple[Claim, ...]] = MappingProxyType(
    {
        "table1": (
            Claim("With all pairs a linear map errs less than a rigid one.", "linear", "rigid"),
            *(
                Claim(f"A stitching MLP with k = {k} does no better.", "linear", f"stitch_k{k}", _NEAR)
                for k in _WIDTHS
            ),
        ),
        "table2": (
            Claim(
                "A decoder of relative codes errs little more than the network's own, less than 1.5 times as much.",
                "decoder_only_N",
                "ae_baseline",
                1.5,
            ),
            Claim("So does a network that is trained end to end.", "end2end_N", "ae_baseline", 1.5),
            Claim(
                "Across networks, training end to end does better than training the decoder only.",
                "end2end_N_to_M",
                "decoder_only_N_to_M",
            ),
            *(
                Claim(
                    f"Beyond the paper: {what} cross better than the distances to random anchors.",
                    f"decoder_only_N_to_M ({column})",
                    "decoder_only_N_to_M",
                )
                for what, column in (
                    ("cosines", "cosine"),
                    ("farthest-point anchors", "farthest-point"),
                    ("k-means anchors", "k-means"),
                )
            ),
        ),
        "table3": (
            Claim("With few anchors, too, a linear map errs less than a rigid one.", "linear", "rigid"),
            *(
                Claim(
                    f"A stitching MLP with k = {k} errs at least twice as much.",
                    "linear",
                    f"stitch_k{k}",
                    0.5,
                )
                for k in _WIDTHS
            ),
            *(
                Claim(
                    f"The same with k = {k}, when training stops after 20 epochs.",
                    "linear",
                    f"stitch_k{k} (20 epochs)",
                    0.5,
                    theirs=f"stitch_k{k}",
                )
                for k in _WIDTHS
            ),
            Claim("Beyond the paper: ridge errs no more than the linear map.", "ridge", "linear", _NEAR),
        ),
        "table4": (
            *(
                Claim(
                    f"Closest points ({how}) make a {method} map worse than that of the class means.",
                    f"means_{method}",
                    f"means_icp_{method}{column}",
                    theirs=f"means_icp_{method}",
                )
                for method in ("rigid", "linear")
                for how, column in (
                    ("one-sided, the same images on both sides", ""),
                    ("one-sided, other images on either side", " (one-sided, other images)"),
                    ("mutual, the same images", " (mutual, same images)"),
                    ("mutual, other images", " (mutual, other images)"),
                )
            ),
            *(
                Claim(
                    f"Beyond the paper: the map from labels alone ({images} images) errs {what}.",
                    f"labels ({images} images)",
                    other,
                    limit,
                )
                for images in ("same", "other")
                for what, other, limit in (
                    ("less than the linear map of the class means", "means_linear", 1.0),
                    ("less than their ridge map", "means_ridge", 1.0),
                    ("at most 1.15 times as much as the affine map of all pairs", "affine, all pairs", 1.15),
                )
            ),
        ),
        "table5": (
            Claim("Between architectures, too, a linear map errs less than a rigid one.", "linear", "rigid"),
            Claim(
                "A decoder of relative codes errs more than twice as much as the linear map.",
                "linear",
                "relrep_decoder_only",
                0.5,
            ),
            Claim(
                "So it does where the codes are standardized as if they were the target's own.",
                "linear",
                "relrep_decoder_only (target's statistics)",
                0.5,
                theirs="relrep_decoder_only",
            ),
            Claim("It errs more than the rigid map, too.", "rigid", "relrep_decoder_only"),
            Claim(
                "Beyond the paper: with as many anchors as dimensions the linear map explodes, to three times the "
                "error of ridge and more.",
                "ridge",
                "linear",
                1 / 3,
                where=_as_many,
            ),
            Claim("Beyond the paper: ridge errs no more than the linear map.", "ridge", "linear", _NEAR),
            Claim("Beyond the paper: ridge errs less than the rigid map.", "ridge", "rigid"),
            Claim("Beyond the paper: similarity errs less than rigid.", "similarity", "rigid"),
            Claim(
                "Beyond the paper: with all pairs a stitching MLP (k = 4) errs less than the linear map.",
                "stitch_k4",
                "linear",
                where=lambda row: row["anchors"] == "all",
            ),
            Claim(
                "Beyond the paper: with the paper's 100 or 200 anchors it errs at most 1.2 times as much.",
                "stitch_k4",
                "linear",
                1.2,
                where=_few,
            ),
        ),
        "table6": (
            Claim(
                "The MLP's decoder reads the other's codes with at least twice its own error.",
                "mlp",
                "conv_to_mlp",
                0.5,
            ),
            Claim("So does the convolutional network's.", "conv", "mlp_to_conv", 0.5),
            *(
                Claim(
                    f"The same, {arrow}, where the codes are standardized as if they were the target's own.",
                    own,
                    f"{column} (target's statistics)",
                    0.5,
                    theirs=column,
                )
                for own, column, arrow in (
                    ("mlp", "conv_to_mlp", "conv → MLP"),
                    ("conv", "mlp_to_conv", "MLP → conv"),
                )
            ),
        ),
    }
)
"""What is claimed of each table."""
