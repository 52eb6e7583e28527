"""What can be done about a model change, and what the figures say of it: the results of `latalign.verdict`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal, final

from latalign.bridging import Tried
from latalign.evidence import plain
from latalign.local_map import LocalMap
from latalign.maps import AffineMap

OptionName = Literal["keep", "bridge", "documents", "re-embed"]
"""From the one that costs least to the one that costs most."""
Choice = Literal[OptionName, "cannot tell"]

MAPS: tuple[OptionName, ...] = ("bridge", "documents")


@final
@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over the queries with its bootstrap interval.

    Attributes
    ----------
    value, low, high : float
        The interval covers 95 %: percentiles of means over queries drawn with replacement, among them two
        made-up ones, which each side wins outright. So a few queries that all agree do not make an
        interval without width.
    """

    value: float
    low: float
    high: float


@final
@dataclass(frozen=True, slots=True)
class Option:
    """One thing that can be done, and how well the test queries find what they should.

    Attributes
    ----------
    name : {"keep", "bridge", "documents", "re-embed"}
        Old queries in the old index; new queries mapped into the untouched old index; new queries in
        the old index mapped to the new space; new queries in the new index.
    method : str or None
        The method of its map, chosen by retrieval among held-out anchors; "none" is no map between spaces
        of one width: queries by the new model as they are.
    recall_at_1, recall_at_10, mrr : float
        The share of the relevant rows among the nearest and the ten nearest of a query, and the mean of
        one over the rank of the first of them. From 0 to 1, higher is better.
    csls_recall_at_1, csls_recall_at_10 : float
        The same recall where rows are ranked by CSLS, which corrects for hubs; how crowded it is around a
        stored row is told by the other queries. No option is chosen by it.
    hubness : float
        How unevenly the stored rows are among the ten nearest of the queries: the skewness
        (`latalign.metrics.hubness`). Lower is better; it depends on the counts of queries and rows.
    gain : Interval or None
        The recall@10 less that of keeping the old model, query by query; None of "keep" itself.
    queries_needed : int or None
        About how many queries would tell that gain from none four times in five, if it is what it seems;
        where the interval contains zero. More than there were.
    tried : tuple of Tried
        How held-out anchors found themselves by every map, the chosen one first.
    query_map : AffineMap, LocalMap or None
    index_map : AffineMap or None
        That one, fitted on all anchors: what the queries and the stored rows go through before they are
        compared, where they do. A file of one is made by its `save`.
    """

    name: OptionName
    method: str | None
    recall_at_1: float
    recall_at_10: float
    mrr: float
    csls_recall_at_1: float
    csls_recall_at_10: float
    hubness: float
    gain: Interval | None = None
    queries_needed: int | None = None
    tried: tuple[Tried, ...] = ()
    query_map: AffineMap | LocalMap | None = field(default=None, compare=False, repr=False)
    index_map: AffineMap | None = field(default=None, compare=False, repr=False)

    @property
    def beats_keeping(self) -> bool:
        """Whether the whole interval of the gain lies above zero."""
        return self.gain is not None and self.gain.low > 0

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values, without the maps."""
        return plain(
            {
                "name": self.name,
                "method": self.method,
                "recall_at_1": self.recall_at_1,
                "recall_at_10": self.recall_at_10,
                "mrr": self.mrr,
                "csls_recall_at_1": self.csls_recall_at_1,
                "csls_recall_at_10": self.csls_recall_at_10,
                "hubness": self.hubness,
                "gain": None if self.gain is None else asdict(self.gain),
                "queries_needed": self.queries_needed,
                "tried": [asdict(one) for one in self.tried],
            }
        )


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and the figures that say so.

    Attributes
    ----------
    choice : {"keep", "bridge", "documents", "re-embed", "cannot tell"}
        The cheapest option that no other beats: one beats another where the whole interval of its
        recall@10 less that of the other lies above zero. "cannot tell" where none beats keeping the old
        model, but there is a map that does not lose to it for certain either.
    options : tuple of Option
        In the order of their cost. "re-embed" is there only if a new index was given.
    queries, index_rows : int
    anchors : int
        Those that the maps are fitted on.
    anchors_left_out : int
        Those that are a test query or a relevant row themselves: on what a map was fitted to, it does
        better than it will.
    truth : {"relevant rows", "neighbors in the new index"}
        By the latter "re-embed" is right by definition, but for equal rows, and cannot be chosen.
    """

    choice: Choice
    options: tuple[Option, ...]
    queries: int
    index_rows: int
    anchors: int
    anchors_left_out: int
    truth: Literal["relevant rows", "neighbors in the new index"]

    @property
    def a_map_beats_keeping(self) -> bool:
        """Whether either map is better than the old model, beyond chance."""
        return any(one.beats_keeping for one in self.options if one.name in MAPS)

    @property
    def chosen_map_exists(self) -> bool:
        """Whether the choice is to map something, so that `save_map` has a map to write."""
        return self.choice in MAPS

    def option(self, name: OptionName) -> Option:
        """Return the option of that name.

        Raises
        ------
        KeyError
            If it was not measured: "re-embed" without a new index.
        """
        for one in self.options:
            if one.name == name:
                return one
        raise KeyError(f"{name!r} was not measured: it needs a new index")

    def save_map(self, path: str | PathLike[str]) -> dict[str, Path]:
        """Write what the choice maps with: the queries' map of a bridge, or that of the stored documents.

        Where queries and mapped documents are compared less a mean, the queries go through a map as well. It
        is written beside the other, as ``NAME.queries.safetensors``.

        Parameters
        ----------
        path : path
            The map file of the queries (bridge) or of the documents.

        Returns
        -------
        dict of str to Path
            What is to be mapped, "queries" or "documents", and the file of its map.

        Raises
        ------
        ValueError
            If the choice is no map; nothing is written.
        OSError
            If a file cannot be written.
        """
        if self.choice != "bridge" and self.choice != "documents":
            raise ValueError(
                f"Verdict.save_map needs a verdict for a map, bridge or documents; it is {self.choice!r}. A map "
                "that was not chosen is among the options: option(name).query_map and index_map."
            )
        chosen, path = self.option(self.choice), Path(path)
        if chosen.index_map is None:
            written = {"queries": (path, chosen.query_map)}
        else:
            beside = path.with_name(f"{path.stem}.queries.safetensors")
            written = {"documents": (path, chosen.index_map), "queries": (beside, chosen.query_map)}
        for file, map_ in written.values():
            if map_ is not None:
                map_.save(file)
        return {name: file for name, (file, map_) in written.items() if map_ is not None}

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values, without the maps."""
        return {
            "choice": self.choice,
            "a_map_beats_keeping": self.a_map_beats_keeping,
            "options": [one.to_json() for one in self.options],
            "queries": self.queries,
            "index_rows": self.index_rows,
            "anchors": self.anchors,
            "anchors_left_out": self.anchors_left_out,
            "truth": self.truth,
        }
