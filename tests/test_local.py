"""`LocalMap` and `local_retrieval`: the definition by rows, the ends, what is chosen, files, bad input."""

import json
import re

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.gaussian_process.kernels import RBF, DotProduct
from sklearn.kernel_ridge import KernelRidge

import latalign
from latalign import AffineMap, LocalMap, Map, Moments, for_queries, local_retrieval, solve
from latalign._validation import Pairs
from latalign.metrics import mrr_score, ranks
from problems import pairs, relative, rotation


def a_map(rng, anchors=7, dim_source=5, dim_target=3):
    affine = AffineMap(
        rng.normal(size=dim_source), rng.normal(size=(dim_source, dim_target)), rng.normal(size=dim_target)
    )
    return LocalMap(
        affine, rng.normal(size=(anchors, dim_source)), rng.normal(size=(anchors, dim_target)), 1.5
    )


def bent(rng, count, dim=4):
    """A space in two parts, each of which is turned its own way in the other space; unit vectors there."""
    part, rows = rng.integers(2, size=count), rng.normal(size=(count, dim))
    middle = rng.normal(size=(2, dim))
    middle *= 4 / np.linalg.norm(middle, axis=1, keepdims=True)
    turns = np.stack([rotation(rng, dim), rotation(rng, dim)])
    Y = np.einsum("ni,nij->nj", rows, turns[part]) + 0.5 * rng.normal(size=rows.shape)
    return rows + middle[part], Y / np.linalg.norm(Y, axis=1, keepdims=True)


class TestTheMap:
    def test_it_is_its_definition(self, rng):
        map_, X = a_map(rng), rng.normal(size=(20, 5))
        near = np.exp(-(cdist(X, map_.anchors) ** 2) / (2 * 1.5**2))
        np.testing.assert_allclose(map_(X), map_.affine(X) + near @ map_.coefficients, rtol=1e-12)

    def test_far_from_all_anchors_it_is_the_affine_map(self, rng):
        map_ = a_map(rng)
        X = 1e3 + rng.normal(size=(4, 5))
        np.testing.assert_array_equal(map_(X), map_.affine(X))
        np.testing.assert_array_equal(map_(1e200 * X), map_.affine(1e200 * X))  # whose squares overflow

    def test_nothing_is_lost_far_from_the_origin(self, rng):
        map_, X, away = a_map(rng), rng.normal(size=(9, 5)), 2.0**20
        affine = AffineMap(map_.affine.source_mean + away, map_.affine.matrix, map_.affine.target_mean)
        moved = LocalMap(affine, map_.anchors + away, map_.coefficients, map_.width)
        np.testing.assert_allclose(moved(X + away), map_(X), rtol=1e-7)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_the_dtype_of_the_rows(self, rng, dtype):
        map_, X = a_map(rng), rng.normal(size=(6, 5)).astype(dtype)
        found = map_(X)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, map_(X.astype(float)), rtol=0, atol=10 * np.finfo(dtype).eps * 10)
        assert map_(np.ones((2, 5), int)).dtype == np.float64

    def test_blocks_change_nothing(self, rng, monkeypatch):
        map_, X = a_map(rng), rng.normal(size=(50, 5))
        whole = map_(X)
        monkeypatch.setattr(latalign.local_map, "_BLOCK_VALUES", 21)
        np.testing.assert_allclose(map_(X), whole, rtol=1e-13)

    def test_it_is_a_map_that_others_may_follow(self, rng):
        map_, then = a_map(rng), AffineMap.of(rng.normal(size=(3, 2)))
        assert isinstance(map_, Map)
        X = rng.normal(size=(4, 5))
        np.testing.assert_array_equal((map_ >> then)(X), then(map_(X)))
        assert not map_.anchors.flags.writeable

    def test_there_and_back_through_a_file(self, rng, tmp_path):
        map_, path = local_retrieval(*bent(rng, 40), alpha=0.3), tmp_path / "m.safetensors"
        map_.save(path, source="old", target="new")
        for loaded in (LocalMap.load(path), latalign.load_map(path)):
            assert isinstance(loaded, LocalMap)
            X = rng.normal(size=(5, 4))
            np.testing.assert_array_equal(loaded(X), map_(X))
            assert (loaded.evidence, loaded.method) == (map_.evidence, "local_retrieval")
        header = latalign.read_header(path)
        assert (header.kind, header.source, header.target) == ("local", "old", "new")
        assert json.loads(json.dumps(header.evidence)) == map_.evidence.to_json()
        with pytest.raises(
            ValueError, match=r"kind 'local', not 'affine'. Read it with latalign.LocalMap.load"
        ):
            AffineMap.load(path)

    def test_files_of_rows(self, rng, tmp_path):
        map_, X = a_map(rng), rng.normal(size=(30, 5)).astype(np.float32)
        np.save(tmp_path / "rows.npy", X)
        latalign.apply_file(map_, tmp_path / "rows.npy", tmp_path / "mapped.npy", batch_rows=7)
        np.testing.assert_allclose(np.load(tmp_path / "mapped.npy"), map_(X), rtol=1e-5)

    def test_bad_parts(self, rng):
        map_ = a_map(rng)
        affine, anchors, coefficients = map_.affine, map_.anchors, map_.coefficients
        for given, message in (
            ((affine, anchors[:, :4], coefficients, 1.0), "LocalMap: the anchors"),
            ((affine, anchors, coefficients[:, :2], 1.0), "LocalMap: the coefficients"),
            ((affine, anchors[:3], coefficients, 1.0), "one row of coefficients an anchor; got 7 for 3"),
            ((affine, anchors * np.nan, coefficients, 1.0), "the anchors needs finite values"),
            ((affine, anchors, coefficients, 0.0), "a finite width above zero; got 0.0"),
            ((affine, anchors, coefficients, np.inf), "a finite width above zero; got inf"),
        ):
            with pytest.raises(ValueError, match=re.escape(message)):
                LocalMap(*given)
        with pytest.raises(ValueError, match="LocalMap needs finite values"):
            map_(np.full((2, 5), np.nan))
        with pytest.raises(ValueError, match="LocalMap"):
            map_(np.zeros((2, 4)))
        with pytest.raises(ValueError, match="mapped rows overflow float16; give rows of a wider dtype"):
            LocalMap(affine, anchors, 1e6 * np.ones((7, 3)), 1.0)(anchors.astype(np.float16))

    def test_a_file_that_is_not_sound(self, rng, tmp_path):
        path = tmp_path / "m.safetensors"
        map_ = a_map(rng)
        object.__setattr__(map_, "width", -1.0)
        map_.save(path)
        with pytest.raises(
            ValueError, match=r"m.safetensors is not a sound map file: LocalMap needs a finite"
        ):
            LocalMap.load(path)


def kernels(rows, mean, width):
    """Of rows of either side, in units of the width, with scikit-learn's own kernels."""
    return (DotProduct(sigma_0=0) + 2 * RBF(length_scale=0.7))((rows - mean) / width)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("count", "dims"), [(30, (6, 5)), (200, (6, 5)), (40, (3, 9))])
def test_it_is_kernel_ridge_regression_between_the_coordinates_of_the_anchors(rng, count, dims, weighted):
    """Against scikit-learn's: from X to what a regression from Y to itself makes of each anchor's weight."""
    X, Y = pairs(rng, count, *dims, noise=0.5)
    w = rng.integers(1, 4, count).astype(float) if weighted else np.ones(count)
    alpha = 0.4
    found = local_retrieval(X, Y, alpha=alpha, sample_weight=w if weighted else None)
    penalty = alpha * w.sum() / dims[0]
    means = [np.average(rows, axis=0, weights=w) for rows in (X, Y)]
    widths = [
        np.sqrt(np.average(((rows - mean) ** 2).sum(axis=1), weights=w))
        for rows, mean in zip((X, Y), means, strict=True)
    ]
    K, L = (kernels(rows, *at) for rows, at in zip((X, Y), zip(means, widths, strict=True), strict=True))
    # (L + λ/w)⁻¹ y are the coefficients of a regression to y; divided by w once more they are its residuals.
    inner = KernelRidge(alpha=penalty, kernel="precomputed").fit(L, Y - means[1], sample_weight=w)
    outer = KernelRidge(alpha=penalty, kernel="precomputed").fit(
        K, inner.dual_coef_ / w[:, None], sample_weight=w
    )
    test = rng.normal(size=(50, dims[0]))
    between = (DotProduct(sigma_0=0) + 2 * RBF(length_scale=0.7))(
        (test - means[0]) / widths[0], (X - means[0]) / widths[0]
    )
    bent = between @ outer.dual_coef_
    turned = (test - means[0]) @ solve.shrunk(Moments.of(X, Y, sample_weight=w), alpha=np.inf).matrix
    offset = found.affine.target_mean
    # Both parts and nothing else, in some proportion.
    parts = np.stack([bent.ravel(), turned.ravel()], axis=1)
    share, residual = np.linalg.lstsq(parts, (found(test) - offset).ravel())[:2]
    assert residual[0] < 1e-12 * ((found(test) - offset) ** 2).sum()
    assert (share > 0).all()


def test_the_proportion_and_the_offset_are_of_anchors_left_out(rng):
    X, Y = pairs(rng, 40, 5, 4, noise=0.5)
    found = local_retrieval(X, Y, alpha=0.4)
    x, y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    sizes = [np.sqrt((rows**2).sum(axis=1).mean()) for rows in (x, y)]
    K, L = kernels(X, X.mean(axis=0), sizes[0]), kernels(Y, Y.mean(axis=0), sizes[1])
    penalty = 0.4 * 40 / 5
    wanted = np.linalg.solve(L + penalty * np.eye(40), y)
    unseen = np.empty_like(wanted)
    for row in range(40):  # the same regression without the row, and nothing else changed
        rest = np.delete(np.arange(40), row)
        inner = np.linalg.solve(K[np.ix_(rest, rest)] + penalty * np.eye(39), wanted[rest])
        unseen[row] = K[row, rest] @ inner
    unseen *= (unseen * y).sum() / (unseen**2).sum()
    turn = solve.shrunk(Moments.of(X, Y), alpha=np.inf).matrix
    turned = 0.3 * np.linalg.norm(unseen) / np.linalg.norm(x @ turn) * turn
    # Far from all anchors nothing is left but the linear kernel and the rotation.
    dual = np.linalg.solve(K + penalty * np.eye(40), wanted)
    linear = x.T @ dual / sizes[0] ** 2
    rest = found.affine.matrix - turned
    assert relative(rest * np.linalg.norm(linear) / np.linalg.norm(rest), linear) < 1e-8
    affine = solve.retrieval(Moments.of(X, Y), alpha=0.4, power=0.5, rows=Pairs.of(X, Y))
    score = 3 * np.sqrt(((unseen @ y.T) ** 2).mean())  # of all pairs of rows
    plain = 3 * np.sqrt((((X - X.mean(axis=0)) @ affine.matrix @ y.T) ** 2).mean())
    np.testing.assert_allclose(found.affine.target_mean, affine.target_mean * score / plain, rtol=1e-7)


def test_the_penalty_is_one_in_doubt_and_held_out_rows_tell_which_map_is_taken(rng):
    X, Y = bent(rng, 80)
    found = local_retrieval(X, Y, n_folds=4)
    number = latalign.select.Folds.of(Pairs.of(X, Y), 4, np.random.default_rng(0)).number
    shares = {}
    for penalty in (0.25, 1.0, 4.0):
        shares[penalty] = []
        for k in range(4):
            test, train = np.flatnonzero(number == k), np.flatnonzero(number != k)
            one = local_retrieval(X[train], Y[train], alpha=penalty * 4 / 80)
            shares[penalty].append((1 - 1 / ranks(one(X[test]), Y[test])).sum() / 80)
    best = min(shares, key=lambda penalty: sum(shares[penalty]))
    more = np.subtract(shares[1.0], shares[best])
    expected = best if more.sum() > 2 * more.std(ddof=1) else 1.0  # the standard error of a sum of four
    errors = {one.method: one.error for one in found.evidence.candidates}
    assert errors["local_retrieval"] == pytest.approx(sum(shares[expected]))
    assert errors["local_retrieval"] < errors["retrieval"]
    assert (found.method, found.evidence.scoring) == ("local_retrieval", "mrr")
    assert (found.evidence.alpha, found.evidence.power) == (pytest.approx(expected * 4 / 80), 0.5)


def test_of_many_pairs_some_are_chosen_by(rng, monkeypatch):
    X, Y = bent(rng, 300)
    monkeypatch.setattr(latalign.bending, "_CHOSEN_BY", 100)
    found = local_retrieval(X, Y)
    assert found.evidence.alpha * 300 / 4 in (pytest.approx(0.25), pytest.approx(1.0), pytest.approx(4.0))
    assert found.evidence.anchors == len(found.anchors) == 300


class TestForQueries:
    def test_what_they_have_in_common_is_taken_off(self, rng):
        X, Y = bent(rng, 60)
        queries = 3 + rng.normal(size=(40, 4))
        for map_ in (
            local_retrieval(X, Y, alpha=0.3),
            latalign.fit(X, Y, "retrieval"),
            latalign.fit(X, Y, "rigid"),
        ):
            moved = for_queries(map_, queries)
            assert (type(moved), moved.method) == (type(map_), map_.method)
            affine = map_.affine if isinstance(map_, LocalMap) else map_
            offset = 0 if map_.method == "rigid" else affine.target_mean
            np.testing.assert_allclose(moved(queries).mean(axis=0), offset + np.zeros(4), atol=1e-12)
            np.testing.assert_allclose(np.diff(moved(X), axis=0), np.diff(map_(X), axis=0), atol=1e-12)

    def test_queries_off_to_one_side_find_more(self, rng):
        X, Y = bent(rng, 1500, 12)
        away = 2 * rng.normal(size=12)
        map_ = local_retrieval(X[:1000], Y[:1000])
        asked = X[1000:] + away
        moved = for_queries(map_, X[:300] + away)
        assert mrr_score(moved(asked), Y[1000:]) > 1.05 * mrr_score(map_(asked), Y[1000:])

    def test_few_queries_are_said_to_be_few(self, rng):
        with pytest.warns(
            UserWarning, match="the mean of 3 queries is as much their own as that of all queries"
        ):
            for_queries(AffineMap.of(np.eye(2)), rng.normal(size=(3, 2)))

    def test_no_figures_of_another_map(self, rng):
        found = latalign.fit_heldout(*bent(rng, 60), "local_retrieval", alpha=0.3).map
        assert found.evidence.heldout is not None
        assert for_queries(found, rng.normal(size=(40, 4))).evidence.heldout is None

    def test_bad_queries(self, rng):
        map_ = AffineMap.of(rng.normal(size=(3, 2)))
        with pytest.raises(ValueError, match="for_queries: the queries needs rows of 3 dimensions; got 2"):
            for_queries(map_, np.zeros((4, 2)))
        with pytest.raises(ValueError, match="for_queries: the queries needs finite values; 1 of 2 rows"):
            for_queries(map_, [[1.0, 2.0, 3.0], [np.nan, 0.0, 0.0]])
        with pytest.raises(TypeError, match="for_queries: the queries needs an array of real numbers"):
            for_queries(map_, [["a", "b", "c"]])


def test_where_the_spaces_bend_it_finds_more(rng):
    X, Y = bent(rng, 1500, 12)
    train, test = slice(0, 1000), slice(1000, None)
    found, affine = (
        mrr_score(method(X[train], Y[train])(X[test]), Y[test])
        for method in (local_retrieval, lambda *rows: latalign.fit(*rows, "retrieval"))
    )
    assert found > 2 * affine


def test_where_they_do_not_bend_little_is_lost(rng):
    taken = set()
    for count, dim, noise in ((300, 8, 0.3), (300, 8, 1.0), (400, 3, 0.3), (300, 2, 0.1)):
        X = rng.normal(size=(count + 500, dim))
        Y = X @ rotation(rng, dim) + noise * rng.normal(size=X.shape)
        train, test = slice(count), slice(count, None)
        found, affine = local_retrieval(X[train], Y[train]), latalign.fit(X[train], Y[train], "retrieval")
        assert mrr_score(found(X[test]), Y[test]) > mrr_score(affine(X[test]), Y[test]) - 0.03
        first, second = (one.method for one in found.evidence.candidates)
        assert {first, second} == {"retrieval", "local_retrieval"}
        assert found.method == first
        taken.add(first)
        if first == "retrieval":
            np.testing.assert_allclose(found(X), affine(X), rtol=1e-9, atol=1e-12)
            assert len(found.anchors) == 1
    assert "retrieval" in taken


def test_scale_and_place_of_either_side_change_no_ranking(rng):
    X, Y = bent(rng, 60)
    plain = local_retrieval(X, Y, alpha=0.3)
    moved = local_retrieval(100 * X + 7, 0.01 * Y + 3, alpha=0.3)
    np.testing.assert_allclose(moved(100 * X + 7) / plain(X), 0.01, rtol=1e-5)


def test_a_weight_is_a_repetition_and_none_leaves_out(rng):
    X, Y = bent(rng, 40)
    w = rng.integers(0, 3, 40)
    test = rng.normal(size=(10, 4))
    weighted = local_retrieval(X, Y, alpha=0.3, sample_weight=w)
    repeated = local_retrieval(X.repeat(w, axis=0), Y.repeat(w, axis=0), alpha=0.3)
    np.testing.assert_allclose(weighted(test), repeated(test), rtol=1e-6, atol=1e-9)
    assert len(weighted.anchors) == np.count_nonzero(w)


def test_bad_input(rng, monkeypatch):
    X, Y = bent(rng, 30)
    with pytest.raises(ValueError, match="local_retrieval needs an alpha above zero"):
        local_retrieval(X, Y, alpha=0)
    with pytest.raises(ValueError, match="alpha needs a finite number"):
        local_retrieval(X, Y, alpha=-1.0)
    with pytest.raises(ValueError, match="local_retrieval needs a whole number of at least 2 folds"):
        local_retrieval(X, Y, alpha=0.3, n_folds=1)
    with pytest.raises(ValueError, match=r"call latalign\.local_retrieval, or fit_heldout"):
        latalign.fit(X, Y, "local_retrieval")
    with pytest.raises(ValueError, match="local_retrieval takes alpha, scoring and n_folds; it got power"):
        latalign.fit_heldout(X, Y, "local_retrieval", power=0.5)
    with pytest.raises(ValueError, match="local_retrieval: scoring is one of"):
        local_retrieval(X, Y, scoring="much")
    with pytest.raises(ValueError, match="local_retrieval needs rows that correspond"):
        local_retrieval(X, Y[:9])
    with pytest.raises(ValueError, match="local_retrieval: the source X needs finite values; 1 of 30"):
        local_retrieval(np.where(np.arange(30)[:, None] == 3, np.nan, X), Y)
    with pytest.raises(ValueError, match="at least 2 pairs"):
        local_retrieval(X[:1], Y[:1])
    with pytest.raises(ValueError, match="rows of the source X are the same"):
        local_retrieval(np.ones((30, 4)), Y)
    monkeypatch.setattr(latalign.bending, "MOST_ANCHORS", 20)
    with pytest.raises(ValueError, match=r"at most 20 pairs, .* got 30. Draw some of them"):
        local_retrieval(X, Y)
