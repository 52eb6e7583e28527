"""What a map is said to be worth, against scikit-learn and against plain loops."""

import json
import warnings
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skew
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.neighbors import NearestNeighbors

import latalign
from latalign import AffineMap, Normalize, metrics
from latalign.heldout import fit_heldout
from problems import pairs, rotation


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def own_ranks(queries, index, numbers):
    """The place of row `numbers[i]` of the index in what query i finds, one by one; ties count against."""
    found = []
    for query, number in zip(unit(queries), numbers, strict=True):
        similarity = unit(index) @ query
        found.append(int((similarity >= similarity[number] - 1e-12).sum()))
    return np.array(found)


class TestEvaluate:
    def test_figures_are_those_of_the_definitions(self, rng):
        X, Y = pairs(rng, 150, 6, 6, noise=0.8)
        map_ = latalign.fit(X[:50], Y[:50], "affine")
        found = latalign.evaluate(map_, X[50:], Y[50:])
        assert (found.rows, found.queries) == (100, 100)
        sides = {"mapped": (found.mapped, map_(X[50:])), "no map": (found.no_map, X[50:])}
        for scores, rows in sides.values():
            truth = Y[50:]
            assert scores.mse == pytest.approx(mean_squared_error(truth, rows), rel=1e-10)
            expected = r2_score(truth, rows, multioutput="variance_weighted")
            assert scores.r2 == pytest.approx(expected, rel=1e-10)
            assert scores.cosine == pytest.approx((unit(rows) * unit(truth)).sum(axis=1).mean())
            ranks = own_ranks(rows, truth, range(100))
            assert scores.retrieval.recall_at_1 == np.mean(ranks <= 1)
            assert scores.retrieval.recall_at_10 == np.mean(ranks <= 10)
            assert scores.retrieval.mrr == pytest.approx(np.mean(1 / ranks))
            scaled = metrics.csls_ranks(rows, truth)
            assert scores.retrieval.csls_recall_at_1 == np.mean(scaled <= 1)
            assert scores.retrieval.csls_recall_at_10 == np.mean(scaled <= 10)
            near = NearestNeighbors(n_neighbors=10, metric="cosine").fit(truth).kneighbors(rows)[1]
            counts = np.bincount(near.ravel(), minlength=100)
            assert scores.retrieval.hubness == pytest.approx(skew(counts))
        assert (found.native.recall_at_1, found.native.recall_at_10, found.native.mrr) == (1.0, 1.0, 1.0)
        assert found.native.csls_recall_at_1 == np.mean(metrics.csls_ranks(Y[50:], Y[50:]) <= 1)

    def test_sampled_queries_search_all_rows(self, rng):
        X, Y = pairs(rng, 300, 4, 4, noise=1.5)
        map_ = latalign.fit(X, Y, "affine")
        found = latalign.evaluate(map_, X, Y, max_queries=40, random_state=5)
        assert (found.rows, found.queries) == (300, 40)
        asked = latalign.random_anchors(300, 40, random_state=5)
        ranks = own_ranks(map_(X)[asked], Y, asked)
        assert found.mapped.retrieval.recall_at_1 == np.mean(ranks <= 1)
        assert found.mapped.retrieval.mrr == pytest.approx(np.mean(1 / ranks))
        index = np.vstack([Y[asked], np.delete(Y, asked, axis=0)])
        scaled = metrics.csls_ranks(map_(X)[asked], index)
        assert found.mapped.retrieval.csls_recall_at_10 == np.mean(scaled <= 10)
        whole = latalign.evaluate(map_, X, Y)
        assert found.mapped.mse == whole.mapped.mse
        again = latalign.evaluate(map_, X, Y, max_queries=40, random_state=5)
        assert again == found

    def test_duplicates_lower_the_ceiling(self, rng):
        Y = np.repeat(rng.normal(size=(50, 5)), 2, axis=0)
        found = latalign.evaluate(AffineMap.of(np.eye(5)), Y, Y)
        assert found.native.recall_at_1 == 0.0
        assert found.native.mrr == 0.5
        assert found.mapped.retrieval == found.native

    def test_spaces_of_other_width_have_no_map_to_compare_with(self, rng):
        X, Y = pairs(rng, 60, 5, 3)
        found = latalign.evaluate(latalign.fit(X, Y, "ridge"), X, Y)
        assert found.no_map is None
        assert found.to_json()["no_map"] is None

    def test_a_target_that_is_constant_to_rounding_has_no_r2(self, rng):
        X, Y = rng.normal(size=(20, 3)), np.ones((20, 3))
        Y[0, 0] += 2**-52
        record = latalign.evaluate(AffineMap.of(np.eye(3)), X, Y).to_json()
        assert record["mapped"]["r2"] is None
        assert record["mapped"]["mse"] == pytest.approx(np.mean((X - Y) ** 2))

    def test_rows_that_are_all_the_same_are_refused(self, rng):
        X, same = rng.normal(size=(20, 3)), np.ones((20, 3))
        with pytest.raises(
            ValueError, match="evaluate needs rows that differ; all 20 rows of the target Y are"
        ):
            latalign.evaluate(AffineMap.of(np.eye(3)), X, same)
        with pytest.raises(ValueError, match="all 20 rows of the source X are the same"):
            latalign.evaluate(AffineMap.of(np.eye(3)), same, X)

    def test_any_map_is_measured(self, rng):
        X, Y = pairs(rng, 60, 4, 4)
        chain = AffineMap.of(rotation(rng, 4)) >> Normalize()
        found = latalign.evaluate(chain, X, Y)
        assert found.mapped.mse == pytest.approx(np.mean((chain(X) - Y) ** 2))

    def test_the_record_is_json(self, rng):
        X, Y = pairs(rng, 60, 4, 4)
        record = json.loads(
            json.dumps(latalign.evaluate(latalign.fit(X, Y), X, Y).to_json(), allow_nan=False)
        )
        found = {"recall@1", "recall@10", "mrr", "csls_recall@1", "csls_recall@10", "hubness"}
        assert set(record) == {"rows", "queries", "searched", "mapped", "no_map", "native"}
        assert set(record["mapped"]) == set(record["no_map"]) == {"mse", "r2", "cosine", *found}
        assert set(record["native"]) == found

    @pytest.mark.parametrize(
        ("X", "Y", "words"),
        [
            (np.ones((3, 2)), np.ones((4, 2)), "X has 3 rows, Y has 4"),
            (np.ones((1, 2)), np.ones((1, 2)), "evaluate needs at least 2 pairs of rows; got 1"),
            (np.ones((3, 4)), np.ones((3, 2)), "needs rows of 2 dimensions; got 4"),
            (np.ones((3, 2)), np.ones((3, 4)), "the map returns; it returns 2 dimensions, Y has 4"),
            (np.ones(3), np.ones((3, 2)), r"evaluate: the source X needs a 2-D array"),
            (np.ones((3, 2)), np.full((3, 2), np.nan), "evaluate: the target Y needs finite values; 3 of 3"),
            (np.ones((0, 2)), np.ones((0, 2)), "at least one row"),
        ],
    )
    def test_bad_input(self, X, Y, words):
        with pytest.raises(ValueError, match=words):
            latalign.evaluate(AffineMap.of(np.eye(2)), X, Y)

    def test_two_rows_are_enough(self):
        rows = np.array([[1.0, 0.0], [0.0, 1.0]])
        found = latalign.evaluate(AffineMap.of(np.eye(2)), rows, rows, max_queries=1)
        assert found.mapped.retrieval == type(found.native)(1.0, 1.0, 1.0, 1.0, 1.0, 0.0)

    def test_a_query_there_must_be(self):
        with pytest.raises(ValueError, match="at least one query; got max_queries=0"):
            latalign.evaluate(AffineMap.of(np.eye(2)), np.eye(2), np.eye(2), max_queries=0)


@settings(max_examples=25)
@given(
    power=st.integers(-30, 30),
    dtype=st.sampled_from(["float16", "float32", "float64", "int32"]),
    order=st.sampled_from(["C", "F"]),
    step=st.sampled_from([1, 2]),
)
def test_scale_layout_and_dtype_change_no_relative_figure(power, dtype, order, step):
    """Relative figures hold from 1e-30 to 1e30, for views, Fortran order and read-only memory."""
    X, Y = pairs(np.random.default_rng(0), 80, 3, 3, noise=0.5, shift=0.0)
    X = (X * 100).astype(dtype)
    X = np.repeat(np.asarray(X, order=order), step, axis=0)[::step]
    X.setflags(write=False)
    scaled = Y * 10.0**power
    one, other = latalign.compare(X, Y), latalign.compare(X, scaled)
    for name in ("linear_cka", "procrustes_distance"):
        figures, others = asdict(getattr(one, name)), asdict(getattr(other, name))
        assert others.pop("rows_needed") == pytest.approx(figures.pop("rows_needed"), abs=1)
        assert others == pytest.approx(figures, rel=1e-6)
    assert other.mutual_knn == one.mutual_knn
    a = latalign.evaluate(latalign.fit(X, Y, "affine"), X.astype(float), Y)
    b = latalign.evaluate(latalign.fit(X, scaled, "affine"), X.astype(float), scaled)
    assert b.mapped.r2 == pytest.approx(a.mapped.r2, rel=1e-6)
    assert b.mapped.retrieval == a.mapped.retrieval


class TestHeldout:
    @staticmethod
    def seen(X, Y, **given):
        """The numbers of the rows that the second fit saw (the first is of all)."""
        fits = []

        def fit(X, Y, *rest, **options):
            fits.append(X)
            return latalign.fit(X, Y, *rest, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("latalign.heldout.fit", fit)
            fit_heldout(X, Y, "affine", **given)
        assert len(fits) == 2
        return np.flatnonzero([any((row == other).all() for other in fits[1]) for row in X])

    def test_equal_pairs_are_held_out_together(self, rng):
        """A map of as many dimensions as there are different rows knows every duplicate by heart."""
        copies = rng.integers(1, 4, 60)
        X, Y = (
            np.repeat(rows, copies, axis=0) for rows in (rng.normal(size=(60, 58)), rng.normal(size=(60, 3)))
        )
        shuffled = rng.permutation(len(X))
        X, Y = X[shuffled], Y[shuffled]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = fit_heldout(X, Y, "affine")
            seen = self.seen(X, Y)
        # Whatever equals a row that was seen is not among those held out.
        assert found.heldout.rows == len(X) - len(seen)
        assert 0.2 * len(X) - 3 <= found.heldout.rows <= round(0.2 * len(X))
        assert found.heldout.mapped.r2 < 0

    def test_the_map_is_of_all_pairs_and_the_figures_of_a_map_of_the_others(self, rng):
        X, Y = pairs(rng, 100, 5, 4, noise=0.5)
        found = fit_heldout(X, Y, "affine", holdout=0.25, random_state=2)
        np.testing.assert_array_equal(found.map.matrix, latalign.fit(X, Y, "affine").matrix)
        seen = self.seen(X, Y, holdout=0.25, random_state=2)
        assert len(seen) == 75
        second = latalign.fit(X[seen], Y[seen], "affine")
        test = np.setdiff1d(np.arange(100), seen)
        assert found.heldout == latalign.evaluate(second, X[test], Y[test], random_state=2)
        assert found.map.evidence.heldout == {"rows": 25, **found.heldout.mapped.figures()}
        assert type(found.map.evidence.heldout["rows"]) is int
        assert found.map.evidence.anchors == 100

    def test_the_recipe_is_the_same(self, rng):
        X, Y = pairs(rng, 60, 5, 4)
        found = fit_heldout(X, Y, "ridge", alpha=1e9)
        assert found.map.evidence.alpha == 1e9
        assert found.heldout.mapped.r2 < 0.1  # the second map is shrunk to the mean as well

    def test_nothing_is_held_out(self, rng):
        X, Y = pairs(rng, 60, 5, 4)
        found = fit_heldout(X, Y, holdout=0)
        assert found.heldout is None
        assert found.map.evidence.heldout is None

    @pytest.mark.parametrize(("count", "holdout"), [(4, 0.2), (9, 0.1), (20, 0.99)])
    def test_too_few_pairs_are_said_to_be(self, rng, count, holdout):
        X, Y = pairs(rng, count, 2, 2)
        with pytest.warns(UserWarning, match=rf"no held-out error: {holdout} of {count} rows leaves"):
            found = fit_heldout(X, Y, "rigid", holdout=holdout)
        assert found.heldout is None

    def test_few_pairs_are_said_to_be_rough(self, rng):
        X, Y = pairs(rng, 20, 2, 2)
        with pytest.warns(UserWarning, match="only 4 rows are held out: their figures are rough"):
            assert fit_heldout(X, Y, "rigid").heldout.rows == 4

    def test_a_second_fit_that_fails_is_told(self):
        # One of two different rows is held out, with all its copies.
        X = np.repeat([[0.0, 1.0], [2.0, 5.0]], 20, axis=0)
        with pytest.warns(
            UserWarning, match="no held-out error: .* all 20 rows of the source X are the same"
        ):
            found = fit_heldout(X, X + 1, "ridge", holdout=0.5)
        assert found.heldout is None
        assert found.map.method == "ridge"

    def test_a_warning_is_given_once(self, rng):
        X, Y = pairs(rng, 60, 100, 3)
        with pytest.warns(latalign.IllConditionedWarning) as caught:
            fit_heldout(X, Y, "affine")
        assert len(caught) == 1

    @pytest.mark.parametrize("holdout", [-0.1, 1, 2])
    def test_a_share_is_less_than_all(self, holdout):
        with pytest.raises(ValueError, match="0 ≤ holdout < 1"):
            fit_heldout(np.eye(3), np.eye(3), holdout=holdout)

    def test_weights_are_refused(self):
        with pytest.raises(TypeError, match="takes no sample_weight"):
            fit_heldout(np.eye(3), np.eye(3), sample_weight=[1, 2, 3])
