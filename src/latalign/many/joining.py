"""A new space joins a shared one: its own two maps from rows in common with spaces that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from latalign import solve
from latalign._validation import Array
from latalign.evidence import Evidence
from latalign.many.crossval import Checked, Penalties, baselines, direct_map, pair_of, penalties, values_of
from latalign.many.evidence import PairEvidence, detour, round_trip
from latalign.many.pairwise import (
    Pairwise,
    check_pairwise,
    folds_of_moments,
    folds_of_rows,
    rounding_of,
    spreads,
    total_of,
)
from latalign.many.solving import solve_seen, warn_if_loose
from latalign.maps import AffineMap
from latalign.metrics import squared_error
from latalign.moments import Moments

Maps = Mapping[str, tuple[AffineMap, AffineMap]]
"""The maps into the shared space and back, by the names of the spaces."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """The maps of a new space, and what is known of it and those that it has rows in common with."""

    into: AffineMap
    back: AffineMap
    pairs: tuple[PairEvidence, ...]


def folds_of_new(
    name: str,
    X: ArrayLike,
    known: Mapping[str, ArrayLike],
    maps: Maps,
    sample_weight: ArrayLike | None,
    n_folds: int,
    rng: np.random.Generator,
) -> tuple[Pairwise, ...]:
    """Return the moments of the new space and each known one, fold by fold; the new space is number 0."""
    _check_names(name, known, maps)
    folds = folds_of_rows({name: X, **known}, sample_weight, n_folds, rng, "double", "join")
    return _checked(tuple(_star(fold) for fold in folds), maps)


def folds_of_given(
    name: str, known: Mapping[str, Moments | Sequence[Moments]], maps: Maps
) -> tuple[Pairwise, ...]:
    """Return the same from moments that are given."""
    _check_names(name, known, maps)
    return _checked(folds_of_moments({(name, other): given for other, given in known.items()}, "join"), maps)


def joined(folds: Sequence[Pairwise], method: str, maps: Maps, agreement: Moments) -> Joined:
    """Return the maps of the new space; those of the others are only read."""
    total = total_of(folds)
    if not all(one.count for fold in folds for one in fold.moments.values()):
        folds = (total,)
    found = penalties(folds, None) if method == "ridge" else None
    new = _solved(total, maps, agreement, found)
    warn_if_loose([(total.names[0], new[0], total.dims[1:])])
    checked = _held_out(folds, maps, agreement, found) if len(folds) > 1 else Checked.nothing()
    return Joined(*new, _pairs(total, method, found, checked, {total.names[0]: new, **maps}))


def _check_names(name: str, known: Mapping[str, object], maps: Maps) -> None:
    if name in maps:
        raise ValueError(f"join needs a new name; there is a space {name!r} already")
    if not known:
        raise ValueError("join needs the same rows in at least one space that is there; got none")
    if unknown := [other for other in known if other not in maps]:
        raise ValueError(f"join: there is no space {unknown[0]!r}; there are: {', '.join(map(repr, maps))}")


def _star(fold: Pairwise) -> Pairwise:
    """Leave out the pairs that the new space is not in."""
    return Pairwise(fold.names, {edge: one for edge, one in fold.moments.items() if edge[0] == 0})


def _checked(folds: tuple[Pairwise, ...], maps: Maps) -> tuple[Pairwise, ...]:
    total = total_of(folds)
    for name, dim in zip(total.names[1:], total.dims[1:], strict=True):
        own = maps[name][0].dim_source
        if dim != own:
            raise ValueError(f"join: the space {name!r} has {own} dimensions; the rows given have {dim}")
    check_pairwise(total, "join")
    return folds


def _solved(
    pairwise: Pairwise, maps: Maps, agreement: Moments, found: Penalties | None
) -> tuple[AffineMap, AffineMap]:
    """Return the map of the new space into the shared one, and back."""
    pairs = {pairwise.names[i]: moments for i, moments in pairwise.partners(0).items()}
    shared = _sum([moments.mapped(None, maps[name][0]) for name, moments in pairs.items()])
    if found is None:
        here = solve.rigid(shared)
        return here, AffineMap(here.target_mean, here.matrix.T, here.source_mean, "rigid", here.evidence)
    rounding = rounding_of(pairwise)
    here = _encoder(pairs, maps, found.shared[0], rounding)
    return here, _decoder(pairs, maps, shared.swapped(), agreement, rounding, here.evidence)


def _encoder(pairs: Mapping[str, Moments], maps: Maps, alpha: float, rounding: float) -> AffineMap:
    """Return the map into the shared space that, followed by the maps back, is nearest to the ridge maps.

    Least squares over all spaces, each relative to its spread, on rows of the new space. To those without rows
    in common it leads as the ways by the known spaces do.
    """
    first = next(iter(pairs.values()))
    width = next(iter(maps.values()))[0].dim_target
    gram, total = np.zeros((width, width)), 0.0
    cross, ways = (np.zeros((first.dim_source + 1, width)) for _ in range(2))
    known: list[Evidence] = []
    for name, pair in pairs.items():
        encoder, decoder = maps[name]
        direct = solve.ridge(pair, alpha=alpha * _scale(pair.xx_diagonal))
        spread = float(pair.yy_diagonal.sum())
        share = pair.weight**2 / spread if spread > 0 else 0.0
        gram += share * (decoder.matrix @ decoder.matrix.T)
        cross += share * (_about(direct, first.source_mean, decoder.offset) @ decoder.matrix.T)
        ways += pair.weight * _about(direct >> encoder, first.source_mean, np.zeros(width))
        total += pair.weight
        known += [] if direct.evidence is None else [direct.evidence]
    ways /= total
    size = float(gram.trace()) / len(pairs)
    for _, decoder in (maps[name] for name in maps if name not in pairs):
        square = decoder.matrix @ decoder.matrix.T
        square *= size / float(square.trace()) if square.any() else 0.0
        gram += square
        cross += ways @ square
    matrix = _nearest(gram, cross.T, ways.T, rounding).T
    evidence = Evidence(
        anchors=max(one.anchors for one in known),
        rank=max(one.rank for one in known),
        condition=max(one.condition for one in known),
        error_bound=max(one.error_bound for one in known),
        alpha=alpha,
    )
    return AffineMap(first.source_mean, matrix[:-1], matrix[-1], "ridge", evidence)


def _decoder(
    pairs: Mapping[str, Moments],
    maps: Maps,
    shared: Moments,
    agreement: Moments,
    rounding: float,
    evidence: Evidence | None,
) -> AffineMap:
    """Return the map back: least squares on where the known spaces put the rows, with their penalties.

    From where the other spaces put theirs, it leads as the ways by the known spaces do.
    """
    penalized, total = shared.xx.copy(), 0.0
    ways = np.zeros(shared.xy.shape)
    for name, pair in pairs.items():
        (encoder, decoder), known = maps[name], maps[name][0].evidence
        penalty = _scale(pair.yy_diagonal) * ((known.alpha if known else None) or 0.0)
        penalized += penalty * (encoder.matrix.T @ encoder.matrix)
        ways += pair.weight * (decoder.matrix @ solve.ridge(pair.swapped(), alpha=penalty).matrix)
        total += pair.weight
    ways /= total
    others = (len(maps) - len(pairs)) * total / len(pairs) / agreement.weight
    penalized += others * agreement.xx
    matrix = _nearest(penalized, shared.xy + others * (agreement.xx @ ways), ways, rounding)
    return AffineMap(shared.source_mean, matrix, shared.target_mean, "ridge", evidence)


def _nearest(gram: Array, cross: Array, guess: Array, rounding: float) -> Array:
    """Return the least squares that are nearest to a guess where they are not determined."""
    rest = solve_seen(gram, cross - gram @ guess, rounding)
    return guess + rest.coefficients


def _about(map_: AffineMap, mean: Array, origin: Array) -> Array:
    """Return the matrix of a map, and below it where it takes that mean, from an origin."""
    at_mean = map_.target_mean + (mean - map_.source_mean) @ map_.matrix - origin
    return np.vstack([map_.matrix, at_mean])


def _sum(parts: Sequence[Moments]) -> Moments:
    return sum(parts[1:], parts[0])


def _scale(diagonal: Array) -> float:
    return float(diagonal.mean())


def _held_out(folds: Sequence[Pairwise], maps: Maps, agreement: Moments, found: Penalties | None) -> Checked:
    """Return the errors of the new maps on rows that they are not fitted to."""
    total = total_of(folds)
    edges = [edge for i in total.partners(0) for edge in ((0, i), (i, 0))]
    error, direct = dict.fromkeys(edges, 0.0), dict.fromkeys(edges, 0.0)
    for k, fold in enumerate(folds):
        train = total_of(folds, k)
        here, there = _solved(train, maps, agreement, found)
        for i, held in fold.partners(0).items():
            into, back = maps[total.names[i]]
            error[0, i] += squared_error(here >> back, held)
            error[i, 0] += squared_error(into >> there, held.swapped())
            if found is None:
                seen = train.partners(0)[i]
                direct[0, i] += squared_error(solve.rigid(seen), held)
                direct[i, 0] += squared_error(solve.rigid(seen.swapped()), held.swapped())
    values = {edge: values_of(pair_of(total, edge)) for edge in edges}
    return Checked(
        baselines(folds),
        {edge: error[edge] / values[edge] for edge in edges},
        {edge: direct[edge] / values[edge] for edge in edges} if found is None else found.error,
    )


def _pairs(
    total: Pairwise, method: str, found: Penalties | None, checked: Checked, maps: Maps
) -> tuple[PairEvidence, ...]:
    """Return what is known of the new space and those that it has rows in common with, both ways."""
    names = [*total.names, *(name for name in maps if name not in total.names)]
    known = dict(enumerate(spreads(total)))

    def through(source: int, target: int) -> AffineMap:
        return maps[names[source]][0] >> maps[names[target]][1]

    def straight(source: int, target: int) -> AffineMap | None:
        return direct_map(total, source, target, method, found)

    pairs: list[PairEvidence] = []
    for i, moments in total.partners(0).items():
        for source, target in ((0, i), (i, 0)):
            mean, covariance = known[source].mean, known[source].covariance
            spread = float(known[target].covariance.trace())
            pairs.append(
                PairEvidence(
                    names[source],
                    names[target],
                    moments.count,
                    checked.baseline.get((source, target)),
                    checked.error.get((source, target)),
                    checked.direct.get((source, target)),
                    round_trip(through, source, target, mean, covariance),
                    round_trip(straight, source, target, mean, covariance),
                    detour(through, source, target, len(names), mean, covariance, spread),
                )
            )
    return tuple(pairs)


def bare_pairs(name: str, others: Sequence[str]) -> tuple[PairEvidence, ...]:
    """Return what is known of the new space and those without rows in common: that there are none."""
    return tuple(
        PairEvidence(*pair, anchors=0) for other in others for pair in ((name, other), (other, name))
    )
