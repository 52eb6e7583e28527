"""How alike two spaces are said to be, against the definitions and against what is known of them."""

import json

import numpy as np
import pytest

import latalign
from latalign import metrics
from latalign.methods import LEAST_SQUARES
from problems import pairs, rotation


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class TestCompare:
    def test_figures_are_those_of_the_definitions(self, rng):
        X, Y = pairs(rng, 120, 6, 4, noise=0.5)
        found = latalign.compare(X, Y)
        x, y = X - X.mean(axis=0), Y - Y.mean(axis=0)
        gram = np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
        assert found.linear_cka.value == pytest.approx(gram)
        assert found.linear_cka.debiased == pytest.approx(metrics.debiased_cka_score(X, Y))
        nuclear = np.linalg.norm(x.T @ y, "nuc") / (np.linalg.norm(x) * np.linalg.norm(y))
        assert found.procrustes_distance.value == pytest.approx(np.arccos(nuclear))
        near = [np.argsort(-(unit(rows) @ unit(rows).T) + 9 * np.eye(120), axis=1)[:, :10] for rows in (X, Y)]
        shared = [len(set(a) & set(b)) / 10 for a, b in zip(*near, strict=True)]
        assert found.mutual_knn.value == pytest.approx(np.mean(shared))
        assert (found.rows, found.dim_source, found.dim_target, found.k, found.measured_rows) == (
            120,
            6,
            4,
            10,
            120,
        )

    def test_r2_is_that_of_refitting_on_every_fold(self, rng):
        X, Y = pairs(rng, 90, 5, 4, noise=0.7)
        found = {row.method: row for row in latalign.compare(X, Y, random_state=3).methods}
        assert set(found) == {method.name for method in LEAST_SQUARES}
        folds = latalign.select.Folds.of(latalign.moments.Pairs.of(X, Y), 5, np.random.default_rng(3)).number
        for method in ("affine", "linear", "rigid", "similarity"):
            errors, base = [], []
            for k in range(5):
                map_ = latalign.fit(X[folds != k], Y[folds != k], method)
                errors.append(np.sum((map_(X[folds == k]) - Y[folds == k]) ** 2))
                base.append(np.sum((Y[folds != k].mean(axis=0) - Y[folds == k]) ** 2))
            assert found[method].r2 == pytest.approx(1 - sum(errors) / sum(base), rel=1e-6)

    def test_the_same_space_turned(self, rng):
        X = rng.normal(size=(100, 5))
        found = latalign.compare(X, 3 * X @ rotation(rng, 5) + 2)
        assert found.linear_cka.debiased == pytest.approx(1)
        assert (found.linear_cka.low, found.linear_cka.high) == pytest.approx((1, 1))
        assert found.procrustes_distance.value == pytest.approx(0, abs=1e-6)
        assert found.procrustes_distance.debiased == pytest.approx(1)
        assert found.told_from_chance
        scores = {row.method: row.r2 for row in found.methods}
        assert scores["similarity"] == pytest.approx(1)
        assert scores["rigid"] < 0.8

    def test_spaces_that_have_nothing_in_common(self, rng):
        found = latalign.compare(rng.normal(size=(2000, 5)), rng.normal(size=(2000, 7)))
        assert found.linear_cka.value < 0.01
        assert found.mutual_knn.value < 0.02
        for measure in (found.linear_cka, found.procrustes_distance, found.mutual_knn):
            assert abs(measure.debiased) < 5 * measure.chance_spread
            assert measure.low < 0.01
            assert measure.high > -0.01
        assert abs(found.methods[0].r2) < 0.02

    def test_a_sample_is_measured(self, rng):
        X, Y = pairs(rng, 300, 4, 4)
        found = latalign.compare(X, Y, max_rows=50)
        assert (found.rows, found.measured_rows) == (300, 50)
        assert found == latalign.compare(X, Y, max_rows=50)

    def test_few_rows_have_no_ten_neighbors(self, rng):
        X, Y = pairs(rng, 8, 3, 3)
        with pytest.warns(
            UserWarning, match=r"no more than k=10 different rows are measured \(8\).* Give a smaller k"
        ):
            record = latalign.compare(X, Y).to_json()
        assert set(record["mutual_knn"].values()) == {None}
        json.dumps(record, allow_nan=False)
        assert latalign.compare(X, Y, k=3).mutual_knn.value > 0

    def test_the_order_of_the_rows_is_of_no_account_if_ids_pair_them(self, rng):
        X, Y = pairs(rng, 60, 4, 4, noise=0.3)
        ids, order = np.arange(60) * 7, rng.permutation(60)
        source, target = latalign.pair_by_id(ids, ids[order])
        assert latalign.compare(X[source], Y[order][target]) == latalign.compare(X, Y)
        assert latalign.compare(X, Y).told_from_chance
        wrong = latalign.compare(X, Y[order])
        assert not wrong.told_from_chance
        assert wrong.linear_cka.debiased < latalign.compare(X, Y).linear_cka.low

    def test_a_pair_is_measured_once(self, rng):
        """Copies of a pair would be each other's neighbors in any two spaces."""
        X, Y = rng.normal(size=(40, 4)), rng.normal(size=(40, 6))
        again = np.r_[np.arange(40), rng.integers(0, 40, 60)]
        found, once = latalign.compare(X[again], Y[again]), latalign.compare(X, Y)
        assert (found.rows, found.measured_rows) == (100, 40)
        assert found.linear_cka.value == pytest.approx(once.linear_cka.value)
        assert found.mutual_knn.value == once.mutual_knn.value

    @pytest.mark.filterwarnings("ignore:compare. no more than k=10")
    @pytest.mark.parametrize("count", [2, 3, 4, 5])
    def test_few_pairs_have_what_they_can_have(self, rng, count):
        found = latalign.compare(*pairs(rng, count, 3, 3))
        assert np.isfinite(found.linear_cka.value)
        assert np.isnan(found.linear_cka.debiased) == (count < 4)
        assert np.isnan(found.linear_cka.low) == (count < 5)
        json.dumps(found.to_json(), allow_nan=False)

    @pytest.mark.parametrize(
        ("X", "Y", "words"),
        [
            (np.eye(3), np.eye(4), "X has 3 rows, Y has 4"),
            (np.ones((1, 2)), np.ones((1, 2)), "compare needs at least 2 pairs of rows; got 1"),
            (np.ones((9, 2)), np.random.default_rng(0).normal(size=(9, 2)), "all 9 rows of the source X"),
            (np.random.default_rng(0).normal(size=(9, 2)), np.ones((9, 2)), "all 9 rows of the target Y"),
            (np.ones((9, 2)), np.ones((9, 2)), "compare needs rows that differ"),
            (np.full((3, 2), np.inf), np.eye(3), "compare: the source X needs finite values; 3 of 3"),
        ],
    )
    def test_bad_input(self, X, Y, words):
        with pytest.raises(ValueError, match=words):
            latalign.compare(X, Y)

    def test_bad_parameters(self):
        words = "k ≥ 1, max_rows ≥ 2 and n_permutations ≥ 19; got k=0"
        with pytest.raises(ValueError, match=words):
            latalign.compare(np.eye(3), np.eye(3), k=0)
        with pytest.raises(ValueError, match=r"compare needs whole numbers; got max_rows=9\.5"):
            latalign.compare(np.eye(3), np.eye(3), max_rows=9.5)
        with pytest.raises(ValueError, match="n_permutations=18"):
            latalign.compare(np.eye(3), np.eye(3), n_permutations=18)
