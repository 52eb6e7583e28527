"""One pass over pairs of any number: dealt out to folds by what they are, summed, and some of them kept.

Which fold a pair falls into, and whether it is held out, is a function of its values and of the seed: equal
pairs stay together wherever they stand, and nothing that is as long as the rows is held in memory. The
folds are equal but for chance.

The pairs are summed in parts of a fixed size, whose sums are added in the order of the rows: so the bits
of the result do not depend on who computed which part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import final

import numpy as np
from numpy.typing import NDArray

from latalign._rowsum import AnyPrecision, Buffers, Grams, NotFinite, Place, overflow
from latalign._validation import Pairs, Rows
from latalign.engine import Engine
from latalign.io.ahead import ahead
from latalign.io.stamps import unchanged
from latalign.moments import Moments, MomentSum, block_rows
from latalign.on_disk import limited
from latalign.pairing import PairedRows, PairStream
from latalign.select import keys_of

# The rows of a part, about: as many blocks as make so many.
_PART_ROWS = 1 << 20
# Rows of a fold are gathered until there are so many.
_GATHERED = 1024


@final
@dataclass(frozen=True, slots=True)
class Deal:
    """How pairs are dealt out.

    Attributes
    ----------
    n_folds : int
        The folds; with 1 the pairs are not told apart, and their values are not looked at.
    held : float
        The share of the pairs that is held out, beside the folds.
    kept : int
        How many pairs of every fold are kept as they are, drawn at random.
    kept_held : int
        How many of those that are held out.
    seed : int
    precision, grams : see `Moments.of`
    """

    n_folds: int = 1
    held: float = 0.0
    kept: int = 0
    kept_held: int = 0
    seed: int = 0
    precision: AnyPrecision = "double"
    grams: Grams = "source"

    def numbers(self, pairs: Pairs) -> NDArray[np.intp]:
        """Return for every pair the number of its fold; `n_folds` where it is held out."""
        if self.n_folds == 1 and not self.held:
            return np.zeros(len(pairs), np.intp)
        keys = keys_of(pairs)
        folds = (_mixed(keys, 2 * self.seed) % np.uint64(self.n_folds)).astype(np.intp)
        # Of 64 bits, the share below which a number is held out.
        folds[_mixed(keys, 2 * self.seed + 1) < np.uint64(min(self.held * 2.0**64, 2.0**64 - 1025))] = (
            self.n_folds
        )
        return folds


@final
@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Some pairs out of many, drawn at random: those that come first when all are shuffled.

    Attributes
    ----------
    numbers : (n,) array of int
        Their numbers among all pairs, in order.
    source, target : (n, dim) arrays
    """

    numbers: NDArray[np.uint64]
    source: Rows
    target: Rows


@final
class Sampler:
    """Draws a sample of rows that come block by block; the order in which they come does not matter."""

    def __init__(self, size: int, dims: tuple[int, int], seed: int) -> None:
        self._size, self._dims, self._seed = size, dims, seed
        self._parts: list[Sample] = []
        self._held = 0
        self._limit = np.uint64(2**64 - 1)

    def add(self, rows: Sample) -> None:
        """Take what another sample has."""
        self._take(rows.numbers, rows.source, rows.target, np.arange(len(rows.numbers)))

    def add_of(self, pairs: Pairs, start: int, index: NDArray[np.intp]) -> None:
        """Look at some pairs of a block, the first of which has the number `start`."""
        if self._size:
            self._take(index.astype(np.uint64) + np.uint64(start), pairs.source, pairs.target, index)

    def _take(self, numbers: NDArray[np.uint64], source: Rows, target: Rows, index: NDArray[np.intp]) -> None:
        """Keep copies of the rows at `index` that may be in the sample."""
        chosen = np.flatnonzero(_mixed(numbers, self._seed) <= self._limit)
        if len(chosen):
            self._parts.append(Sample(numbers[chosen], source[index[chosen]], target[index[chosen]]))
            self._held += len(chosen)
        if self._held > 2 * self._size:
            self._parts = [self.sample()]
            self._held = len(self._parts[0].numbers)
            self._limit = _mixed(self._parts[0].numbers, self._seed).max()

    def sample(self) -> Sample:
        """Return the sample of all rows that came."""
        if not self._parts:
            return Sample(np.zeros(0, np.uint64), *(np.zeros((0, dim)) for dim in self._dims))
        numbers = np.concatenate([part.numbers for part in self._parts])
        first = np.argsort(_mixed(numbers, self._seed), kind="stable")[: self._size]
        first = first[np.argsort(numbers[first])]
        source = np.concatenate([part.source for part in self._parts])
        return Sample(
            numbers[first], source[first], np.concatenate([part.target for part in self._parts])[first]
        )


@final
@dataclass(frozen=True, slots=True, eq=False)
class Dealt:
    """What is known of pairs after one pass; that of disjoint sets of pairs adds up.

    Attributes
    ----------
    deal : Deal
    folds : tuple of Moments
        Of the pairs that are not held out.
    held : Moments
        Of those that are.
    kept : tuple of Sample
        Of every fold, and of what is held out at last.
    """

    deal: Deal
    folds: tuple[Moments, ...]
    held: Moments
    kept: tuple[Sample, ...]

    def __add__(self, other: Dealt) -> Dealt:
        """Return what is known of the pairs of both."""
        samplers = _samplers(self.deal, (self.held.dim_source, self.held.dim_target))
        for sampler, mine, its in zip(samplers, self.kept, other.kept, strict=True):
            sampler.add(mine)
            sampler.add(its)
        return Dealt(
            self.deal,
            tuple(mine + its for mine, its in zip(self.folds, other.folds, strict=True)),
            self.held + other.held,
            tuple(sampler.sample() for sampler in samplers),
        )


def deal_out(
    pairs: PairStream,
    deal: Deal,
    *,
    threads: int | None = None,
    place: Place = Buffers,
    progress: Callable[[int, int | None], object] | None = None,
) -> Dealt:
    """Read all pairs once.

    Parameters
    ----------
    pairs : PairStream
    deal : Deal
    threads : int, optional
        With two or more, blocks are read ahead.
    place : Place
        Where they are multiplied.
    progress : callable, optional
        Called after every block with the number of pairs that are done, and of all pairs.

    Raises
    ------
    ValueError
        If values are not finite (counted, with the first row), or there are no pairs.
    """
    rows = block_rows(pairs.dims, deal.precision)
    blocks = _told(ahead(pairs.blocks(rows), threads), pairs.rows, progress)
    total, start = None, 0
    try:
        while (first := next(blocks, None)) is not None:
            part = _sums(chain([first], islice(blocks, _part_rows(rows) // rows - 1)), deal, start, place)
            total = part if total is None else total + part
            start += _part_rows(rows)
    except NotFinite:
        pairs.require_finite()
        raise overflow("the rows") from None
    if total is None:
        raise ValueError("there are no pairs of rows")
    return total


def deal_out_on(
    engine: Engine,
    pairs: PairedRows,
    deal: Deal,
    *,
    threads: int | None = None,
    progress: Callable[[int, int | None], object] | None = None,
) -> Dealt:
    """Have an engine read all pairs once, part by part; the result is bit for bit that of `deal_out`.

    Raises
    ------
    ValueError
        As in `deal_out`; or if the number of the pairs is not known, or a file was changed meanwhile.
    """
    if pairs.rows is None:
        raise ValueError(
            f"{pairs.source.location} and {pairs.target.location} have no known number of rows, so an engine "
            "cannot share them out. Leave the engine out, or write them to files that tell it."
        )
    bounds = part_bounds(pairs.rows, pairs.dims, deal.precision)
    total = None
    with unchanged((*pairs.source.files, *pairs.target.files)):
        found = engine.map(partial(deal_part, pairs, deal, threads), bounds)
        # In the order of the rows, whoever was done first: no other sum has the same bits.
        for part, (_, stop) in zip(found, bounds, strict=True):
            total = part if total is None else total + part
            if progress is not None:
                progress(stop, pairs.rows)
    assert total is not None  # every reader has rows
    return total


def deal_part(pairs: PairedRows, deal: Deal, threads: int | None, bounds: tuple[int, int]) -> Dealt:
    """Read the pairs of one part, which `part_bounds` gave, and no others.

    The sum of all parts, in order, is bit for bit what `deal_out` returns.
    """
    start, stop = bounds
    with limited(threads):
        blocks = pairs.blocks(block_rows(pairs.dims, deal.precision), start, stop)
        try:
            return _sums(ahead(blocks, threads), deal, start)
        except NotFinite:
            pairs.require_finite(start, stop)
            raise overflow("the rows") from None


def part_bounds(count: int, dims: tuple[int, int], precision: AnyPrecision) -> list[tuple[int, int]]:
    """Return where the parts of so many pairs begin and end."""
    step = _part_rows(block_rows(dims, precision))
    return [(start, min(start + step, count)) for start in range(0, count, step)]


def _part_rows(rows: int) -> int:
    return -(-_PART_ROWS // rows) * rows


def _told(
    blocks: Iterator[Pairs], count: int | None, progress: Callable[[int, int | None], object] | None
) -> Iterator[Pairs]:
    done = 0
    for block in blocks:
        yield block
        done += len(block)
        if progress is not None:
            progress(done, count)


def _sums(blocks: Iterable[Pairs], deal: Deal, start: int, place: Place = Buffers) -> Dealt:
    """Return what is known of the pairs of some blocks, the first of which has the number `start`."""
    blocks = iter(blocks)
    first = next(blocks)
    dims = first.dims
    size = _gathered_rows(place.rows_at_once(dims, deal.precision), deal.n_folds)
    most = max(size or 0, _GATHERED, len(first))
    multiplier = place(most, dims, deal.precision, deal.grams)
    samplers = _samplers(deal, dims)
    # Of every fold, and of what is held out at last.
    sums = [MomentSum(multiplier) for _ in range(deal.n_folds + 1)]
    parts = _dealt(chain([first], blocks), deal, start, samplers, size)
    for number, part in multiplier.there(parts, first, most):
        sums[number].add(part)
    *found, heldout = (one.moments() for one in sums)
    if deal.n_folds == 1:
        found = [found[0] - heldout]
    return Dealt(deal, tuple(found), heldout, tuple(sampler.sample() for sampler in samplers))


def _gathered_rows(at_once: int | None, n_folds: int) -> int | None:
    """Return how many rows are gathered before they are multiplied; None where blocks are taken as they lie.

    All folds together gather as many as the place multiplies at once.
    """
    if n_folds == 1:
        return at_once
    return _GATHERED if at_once is None else max(min(at_once, _GATHERED), at_once // (n_folds + 1))


def _dealt(
    blocks: Iterable[Pairs], deal: Deal, start: int, samplers: list[Sampler], size: int | None
) -> Iterator[tuple[int, Pairs]]:
    """Yield what is to be multiplied, with the number of the fold; each until the next is asked for.

    A single fold has all pairs, and what is held out is taken from it at last.
    """
    gathered = [_Gathered(size or _GATHERED) for _ in range(deal.n_folds + 1)]
    for block in blocks:
        number = deal.numbers(block)
        index = [np.flatnonzero(number == k) for k in range(deal.n_folds + 1)]
        for sampler, some in zip(samplers, index, strict=True):
            sampler.add_of(block, start, some)
        if deal.n_folds == 1:
            index[0] = np.arange(len(block))
        if size is None:
            yield 0, block
            index[0] = index[0][:0]
        for k, some in enumerate(index):
            for part in gathered[k].add(block, some):
                yield k, part
        start += len(block)
    for k, rest in enumerate(gathered):
        for part in rest.rest():
            yield k, part


def _samplers(deal: Deal, dims: tuple[int, int]) -> list[Sampler]:
    sizes = [*([deal.kept] * deal.n_folds), deal.kept_held]
    return [Sampler(size, dims, 2 * deal.seed + 2**32) for size in sizes]


@final
class _Gathered:
    """Copies of pairs that come a few at a time, until there are enough of them to be multiplied."""

    def __init__(self, rows: int) -> None:
        self._size, self._count = rows, 0
        self._rows: Pairs | None = None

    def add(self, pairs: Pairs, index: NDArray[np.intp]) -> Iterator[Pairs]:
        """Take copies of the pairs at `index`; yield what is full, until the next is asked for."""
        taken = 0
        while taken < len(index):
            if self._rows is None:
                source, target = (
                    np.empty((self._size, side.shape[1]), side.dtype) for side in (pairs.source, pairs.target)
                )
                self._rows = Pairs(source, target, None, pairs.caller)
            some = index[taken : taken + self._size - self._count]
            place = slice(self._count, self._count + len(some))
            for mine, its in ((self._rows.source, pairs.source), (self._rows.target, pairs.target)):
                np.take(its, some, axis=0, out=mine[place], mode="clip")  # which needs no buffer of its own
            self._count, taken = place.stop, taken + len(some)
            if self._count == self._size:
                yield from self.rest()

    def rest(self) -> Iterator[Pairs]:
        """Yield what was taken and is not full, if there is anything."""
        if self._rows is not None and self._count:
            count, self._count = self._count, 0
            yield self._rows.take(slice(0, count))


def _mixed(numbers: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Return numbers that look random, one to one, others for every seed (the finalizer of SplitMix64)."""
    step = np.uint64((0x9E3779B97F4A7C15 * (2 * seed + 1)) % 2**64)
    z = numbers + step
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
