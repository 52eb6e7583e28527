"""A fit from one pass over rows that are streamed: folds, what is held out and what is kept, all dealt out at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np

from latalign import evaluation, heldout
from latalign._validation import Pairs, require_folds
from latalign.dealing import Deal, Dealt, Sample
from latalign.fitting import check_call, choose_by_rows, needs_folds, score_of_rows, solve_folds
from latalign.heldout import HeldoutFit
from latalign.maps import AffineMap
from latalign.methods import METHODS
from latalign.moments import Moments, summed
from latalign.pairing import PairsAgain, PairStream
from latalign.relation import require_related, warn_if_unrelated
from latalign.select import Folds, groups_of
from latalign.solvable import warn_if_undetermined

# What is held out of rows that are streamed: it is measured as it is, in memory.
_HELD_ROWS = 2000
_SCORED_ROWS = 1000
FORCE = "Where that cannot be, --force fits them as they are (refuse_unrelated=False)."


def fit_stream(
    pairs: PairStream,
    dealt_out: Callable[[Deal], Dealt],
    method: str,
    holdout: float,
    seed: int,
    options: Mapping[str, Any],
    refuse_unrelated: bool,
) -> HeldoutFit:
    """Fit from one pass, or from two where the first one's moments are too coarse for the rows."""
    given = {
        name: value for name, value in options.items() if name not in ("scoring", "n_folds", "precision")
    }
    scoring = options["scoring"]
    check_call(method, given, scoring)
    heldout.check_holdout(holdout)
    by_rows = score_of_rows(method, given, scoring)
    n_folds = 5 if options["n_folds"] is None else options["n_folds"]
    require_folds(n_folds, "fit")
    deal = Deal(
        n_folds if by_rows is not None or needs_folds(method, given) else 1,
        min(holdout, _HELD_ROWS / pairs.rows) if pairs.rows else holdout,
        _SCORED_ROWS if by_rows is not None or not holdout else 0,
        _HELD_ROWS,
        seed,
        options["precision"],
        "both" if by_rows is not None else "source" if method == "auto" else METHODS[method].grams,
    )
    dealt = dealt_out(deal)
    sample = dealt.kept[-1 if holdout else 0]
    if len(sample.numbers):
        if refuse_unrelated:
            require_related(sample.source, sample.target, "fit", FORCE)
        else:
            warn_if_unrelated(Pairs.of(sample.source, sample.target))
    folds = filled(dealt.folds)
    total = summed(folds) + dealt.held
    if by_rows is None:
        first = solve_folds(method, folds, given)
    else:
        first = choose_by_rows(scored(dealt), by_rows, method, given)
    fitted = _solved(first, total, given, _again(pairs))
    warn_if_undetermined(fitted)
    measured = _on_heldout(first, dealt.kept[-1], seed) if holdout else None
    return heldout.with_figures(fitted, measured)


def _solved(first: AffineMap, total: Moments, given: Mapping[str, Any], rows: Pairs | None) -> AffineMap:
    """Return the map of the method and the parameters that were found, from all pairs."""
    assert first.evidence is not None  # every solver gives some
    row, evidence = METHODS[first.method], first.evidence
    # What no evidence tells is what the user gave: whether a rotation may reflect.
    found = {**given, **row.settled(evidence)}
    # What has no parameter may need another look at the rows, where they are ill-conditioned.
    reads = row.uses_rows and (not row.parameters or row.ranks)
    more = {"rows": rows} if reads and rows is not None else {}
    fitted = row.solve(total, **found, **more)
    assert fitted.evidence is not None
    kept = {name: getattr(evidence, name) for name in ("scoring", "baseline", "candidates")}
    return replace(fitted, evidence=replace(fitted.evidence, **kept))


def _on_heldout(second: AffineMap, sample: Sample, seed: int) -> evaluation.Evaluation | None:
    if len(sample.numbers) < 2:
        warnings.warn(
            "no held-out error: no pairs could be held out (equal pairs stay together)", stacklevel=4
        )
        return None
    return evaluation.evaluate(second, sample.source, sample.target, random_state=seed)


def filled(folds: tuple[Moments, ...]) -> tuple[Moments, ...]:
    """Return the folds that have pairs; few different pairs may leave some without."""
    return tuple(fold for fold in folds if fold.count) or folds[:1]


def scored(dealt: Dealt) -> Folds:
    """Return folds of which some rows are there."""
    some = [k for k, fold in enumerate(dealt.folds) if fold.count]
    kept = [dealt.kept[k] for k in some]
    number = np.repeat(np.arange(len(some)), [len(sample.numbers) for sample in kept])
    pairs = Pairs(np.concatenate([one.source for one in kept]), np.concatenate([one.target for one in kept]))
    return Folds(tuple(dealt.folds[k] for k in some), pairs, number, groups_of(pairs))


def _again(pairs: PairStream) -> Pairs | None:
    """Return the pairs as the solvers read them: block by block, as often as they need to."""
    return None if pairs.rows is None else cast("Pairs", PairsAgain(pairs, pairs.rows))
