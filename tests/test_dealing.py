"""Parts, folds and draws of rows that are read once."""

from functools import reduce
from operator import add

import numpy as np
import pytest

import latalign
from latalign import Moments
from latalign.dealing import Deal, deal_out, deal_part, part_bounds
from latalign.io.ahead import ahead
from latalign.select import keys_of
from problems import pairs
from row_files import COUNT, files, opened


@pytest.mark.parametrize("deal", [Deal(), Deal(5, 0.2, 50, 300), Deal(1, 0.1, 0, 200), Deal(3, seed=4)])
@pytest.mark.parametrize("precision", ["double", "fast"])
@pytest.mark.usefixtures("streamed")
def test_parts_add_up_to_all_rows_bit_for_bit(rng, tmp_path, deal, precision):
    from dataclasses import replace

    deal = replace(deal, precision=precision)
    X, Y = pairs(rng, COUNT, 5, 4, dtype=np.float32)
    source = opened(*files(tmp_path, X, Y))
    whole, read_ahead = deal_out(source, deal), deal_out(source, deal, threads=2)
    bounds = part_bounds(COUNT, source.dims, precision)
    assert len(bounds) > 1
    parts = [deal_part(source, deal, None, part) for part in reversed(bounds)][::-1]
    for other in (read_ahead, reduce(add, parts)):
        for mine, its in zip((*whole.folds, whole.held), (*other.folds, other.held), strict=True):
            for name in ("count", "source_mean", "target_mean", "xy", "source_gram", "yy_diagonal"):
                np.testing.assert_array_equal(getattr(mine, name), getattr(its, name))
        for mine, its in zip(whole.kept, other.kept, strict=True):
            np.testing.assert_array_equal(mine.source, its.source)
    total = reduce(add, whole.folds) + whole.held
    exact = Moments.of(X, Y, grams="source")
    np.testing.assert_allclose(total.xx, exact.xx, rtol=1e-10 if precision == "double" else 1e-4, atol=1e-3)
    assert total.count == COUNT


@pytest.mark.usefixtures("streamed")
def test_folds_are_those_that_the_keys_say(rng, tmp_path):
    X, Y = pairs(rng, COUNT, 5, 4)
    deal = Deal(4, 0.1, seed=3)
    dealt = deal_out(opened(*files(tmp_path, X, Y)), deal)
    number = deal.numbers(latalign._validation.Pairs(X, Y))
    for k, fold in enumerate((*dealt.folds, dealt.held)):
        exact = Moments.of(X[number == k], Y[number == k], grams="source")
        assert fold.count == exact.count
        np.testing.assert_allclose(fold.xy, exact.xy, rtol=1e-9, atol=1e-9)


def test_equal_pairs_stay_together_and_folds_are_of_one_size(rng):
    X, Y = pairs(rng, 40_000, 3, 2)
    twice = latalign._validation.Pairs(np.concatenate([X, X[::-1]]), np.concatenate([Y, Y[::-1]]))
    number = Deal(5, 0.2, seed=int(rng.integers(100))).numbers(twice)
    np.testing.assert_array_equal(number[:40_000], number[40_000:][::-1])
    share = np.bincount(number[:40_000]) / 40_000
    np.testing.assert_allclose(share, [0.16] * 5 + [0.2], atol=0.012)


def test_seeds_and_roles_are_independent(rng):
    some = latalign._validation.Pairs(*pairs(rng, 40_000, 3, 2))
    one, two = Deal(5, 0.5, seed=0).numbers(some), Deal(5, 0.5, seed=1).numbers(some)
    # Held out by both: a quarter, if one does not tell of the other.
    assert abs(np.mean((one == 5) & (two == 5)) - 0.25) < 0.02


def test_negative_zero_is_zero():
    rows = np.zeros((1, 4), np.float32)
    same = [latalign._validation.Pairs(side, rows) for side in (rows, -rows)]
    assert keys_of(same[0]) == keys_of(same[1])


def test_what_is_kept_is_any_row_alike(rng, tmp_path):
    X = np.arange(COUNT, dtype=np.float64)[:, None]
    x, y = files(tmp_path, X, X)
    found = np.zeros(COUNT)
    for seed in range(40):
        kept = deal_out(opened(x, y), Deal(kept=600, seed=seed)).kept[0]
        assert len(kept.numbers) == 600
        np.testing.assert_array_equal(kept.source[:, 0], kept.numbers)
        found[kept.numbers.astype(int)] += 1
    # 40 draws of one row in ten: four each, and as many of the first half as of the second.
    assert abs(found[: COUNT // 2].sum() / found.sum() - 0.5) < 0.02
    assert found.max() < 20
    assert abs(found.var() - 3.6) < 0.6


def test_reading_ahead_yields_the_same_and_passes_errors_on():
    def items():
        yield from range(5)
        raise ValueError("the sixth")

    found = []
    with pytest.raises(ValueError, match="the sixth"):
        found.extend(ahead(items(), threads=2))
    assert list(ahead(range(100), threads=2)) == list(range(100))


def test_reading_ahead_closes_what_it_reads():
    closed = []

    def items():
        try:
            yield from range(5)
        finally:
            closed.append(True)

    for threads in (1, 2):
        stream = ahead(items(), threads=threads)
        next(stream)
        stream.close()
    assert closed == [True, True]
