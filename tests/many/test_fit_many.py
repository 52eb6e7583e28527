"""Many spaces in one: what is exact, what changes nothing, what two spaces give, what is told of it."""

import json
import pickle
from itertools import pairwise as successive
from itertools import permutations

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes

import latalign
from latalign import Moments, fit_many, fit_many_moments
from problems import NAMES, relative, rotated, rotation, seen


def held_out_error(shared, models, source, target):
    return np.square(shared.map(source, target)(models[source]) - models[target]).mean()


@pytest.mark.parametrize("method", ["rigid", "ridge"])
def test_rotations_of_one_another_are_found(rng, method):
    models = rotated(rng)
    shared = fit_many(models, method)
    tolerance = 1e-12 if method == "rigid" else 1e-6
    for source, target in permutations(models, 2):
        np.testing.assert_allclose(
            shared.map(source, target)(models[source]), models[target], atol=tolerance * 100
        )
        pair = shared.evidence.pair(source, target)
        assert pair.error < 1e-10 * pair.baseline
        assert pair.round_trip < 1e-10
        assert pair.detour < 1e-10


def test_a_rotation_is_one(rng):
    models = seen(rng, dims=(8, 8, 8))
    shared = fit_many(models, "rigid")
    for name in models:
        matrix = shared.into(name).matrix
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(8), atol=1e-13)
        np.testing.assert_array_equal(shared.back(name).matrix, matrix.T)
    assert all(pair.round_trip < 1e-25 and pair.detour < 1e-25 for pair in shared.evidence.pairs)


@pytest.mark.parametrize("dims", [(7, 7), (6, 9), (9, 6)])
def test_two_spaces_give_their_direct_map(rng, dims):
    X, Y = seen(rng, dims=dims).values()
    shared = fit_many([X, Y], "rigid")
    np.testing.assert_allclose(shared.map("0", "1").matrix, latalign.fit(X, Y, "rigid").matrix, atol=1e-12)
    moments = Moments.of(X, Y)
    for source, target, found in (("0", "1", moments), ("1", "0", moments.swapped())):
        ridge = latalign.solve.ridge(found, alpha=0.1 * found.xx_diagonal.mean())
        through = fit_many([X, Y], "ridge", alpha=0.1, dim=sum(dims)).map(source, target)
        np.testing.assert_allclose(through.matrix, ridge.matrix, atol=1e-11)
        np.testing.assert_allclose(through(X if source == "0" else Y), ridge(X if source == "0" else Y))


def test_a_shared_space_as_wide_as_all_together_is_the_direct_maps(rng):
    models = seen(rng)
    shared = fit_many(models, "ridge", alpha=0.05, dim=30)
    for source, target in permutations(models, 2):
        moments = Moments.of(models[source], models[target])
        ridge = latalign.solve.ridge(moments, alpha=0.05 * moments.xx_diagonal.mean())
        assert relative(shared.map(source, target).matrix, ridge.matrix) < 1e-8


def by_rows(models, rng, starts=10):
    """Generalized Procrustes on rows: the consensus and SciPy's rotations in turn, from random starts."""
    width = max(rows.shape[1] for rows in models.values())
    padded = []
    for rows in models.values():
        centred = rows - rows.mean(axis=0)
        padded.append(np.pad(centred, ((0, 0), (0, width - rows.shape[1]))))
    best = np.inf
    for start in range(starts):
        turned = [rows if start == 0 else rows @ rotation(rng, width) for rows in padded]
        for _ in range(2000):
            consensus = np.mean(turned, axis=0)
            turned = [rows @ orthogonal_procrustes(rows, consensus)[0] for rows in padded]
        best = min(best, sum(np.square(one - np.mean(turned, axis=0)).sum() for one in turned))
    return best


@pytest.mark.parametrize("dims", [(5, 5, 5, 5), (5, 3, 4)])
def test_generalized_procrustes_reaches_what_iterations_on_rows_reach(rng, dims):
    models = seen(rng, n=40, dims=dims, noise=0.5, inner=4)
    shared = fit_many(models, "rigid")
    turned = [shared.into(name)(rows) for name, rows in models.items()]
    consensus = np.mean(turned, axis=0)
    objective = sum(np.square(one - consensus).sum() for one in turned)
    assert objective <= by_rows(models, rng) * 1.001  # there are several optima, a hair apart


@pytest.mark.parametrize("method", ["rigid", "ridge"])
def test_what_spaces_are_turned_by_and_their_order_change_nothing(rng, method):
    models = seen(rng, dims=(6, 6, 6))
    shared = fit_many(models, method)
    turns = {name: rotation(rng, 6) for name in models}
    turned = fit_many({name: models[name] @ turns[name] - 2 for name in reversed(models)}, method)
    assert turned.dim == shared.dim
    for source, target in permutations(models, 2):
        back = turns[source] @ turned.map(source, target).matrix @ turns[target].T
        assert relative(back, shared.map(source, target).matrix) < 1e-4
        one, other = shared.evidence.pair(source, target), turned.evidence.pair(source, target)
        assert one.anchors == other.anchors == 300


def test_spaces_of_other_scale_give_the_same_ridge_maps(rng):
    models = seen(rng)
    shared = fit_many(models, alpha=0.1, dim=9)
    scaled = fit_many({**models, "b": models["b"] * 1000}, alpha=0.1, dim=9)
    assert relative(scaled.map("b", "c").matrix * 1000, shared.map("b", "c").matrix) < 1e-9
    assert relative(scaled.map("c", "b").matrix / 1000, shared.map("c", "b").matrix) < 1e-9


@pytest.mark.parametrize("method", ["rigid", "ridge"])
def test_held_out_errors_are_what_new_rows_give(rng, method):
    models = seen(rng, n=2000, dims=(6, 9, 7))
    shared = fit_many({name: rows[:1000] for name, rows in models.items()}, method)
    for pair in shared.evidence.pairs:
        rest = {name: rows[1000:] for name, rows in models.items()}
        assert held_out_error(shared, rest, pair.source, pair.target) == pytest.approx(pair.error, rel=0.15)
        direct = latalign.fit(models[pair.source][:1000], models[pair.target][:1000], method)
        error = np.square(direct(rest[pair.source]) - rest[pair.target]).mean()
        assert error == pytest.approx(pair.direct_error, rel=0.15)
        assert pair.baseline == pytest.approx(models[pair.target].var(axis=0).mean(), rel=0.15)
    assert json.loads(json.dumps(shared.evidence.to_json()))["cost"] == shared.evidence.cost
    assert shared.evidence.n_folds == 5


def test_the_evidence_of_cycles_is_what_rows_tell(rng):
    models = seen(rng, dims=(6, 9, 7, 8))
    shared = fit_many(models)
    pair = shared.evidence.pair("b", "c")
    X = models["b"]
    there = shared.map("b", "c")(X)
    back = shared.map("c", "b")(there)
    spread = np.square(X - X.mean(axis=0)).sum()
    assert np.square(back - X).sum() / spread == pytest.approx(pair.round_trip)
    ways = [shared.map(middle, "c")(shared.map("b", middle)(X)) for middle in ("a", "d")]
    apart = np.mean([np.square(way - there).sum() for way in ways])
    spread = np.square(models["c"] - models["c"].mean(axis=0)).sum()
    assert apart / spread == pytest.approx(pair.detour)


def test_shuffled_rows_warn(rng):
    models = seen(rng)
    models["c"] = rng.permutation(models["c"])
    with pytest.warns(
        latalign.UnrelatedPairsWarning, match="'b' and 'c': the pairs cannot be told from shuffled"
    ):
        shared = fit_many(models)
    assert shared.evidence.pair("a", "c").error > 0.95 * shared.evidence.pair("a", "c").baseline


def test_it_can_be_pickled(rng):
    models = seen(rng)
    again = pickle.loads(pickle.dumps(fit_many(models)))
    assert again.map("a", "b")(models["a"]).shape == models["b"].shape


def test_weights_are_repeats(rng):
    models = seen(rng, n=80)
    counts = rng.integers(0, 4, 80)
    weighed = fit_many(models, "rigid", sample_weight=counts)
    repeated = fit_many({name: np.repeat(rows, counts, axis=0) for name, rows in models.items()}, "rigid")
    assert relative(weighed.map("a", "b").matrix, repeated.map("a", "b").matrix) < 1e-6
    assert weighed.evidence.pair("a", "b").anchors == np.count_nonzero(counts)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("method", ["rigid", "ridge"])
def test_dtypes(rng, dtype, method):
    models = {name: rows.astype(dtype) for name, rows in seen(rng).items()}
    before = {name: rows.copy() for name, rows in models.items()}
    shared = fit_many(models, method)
    double = fit_many({name: rows.astype(np.float64) for name, rows in models.items()}, method)
    assert relative(shared.map("a", "b").matrix, double.map("a", "b").matrix) < 1e-8
    assert shared.map("a", "b")(models["a"]).dtype == dtype
    for name, rows in models.items():
        np.testing.assert_array_equal(rows, before[name])


@pytest.mark.filterwarnings("ignore::latalign.IllConditionedWarning")
@pytest.mark.parametrize("method", ["rigid", "ridge"])
def test_fewer_rows_than_dimensions(rng, method):
    models = seen(rng, n=12, dims=(20, 25, 22))
    shared = fit_many(models, method)
    assert all(np.isfinite(shared.map(*pair).matrix).all() for pair in permutations(models, 2))
    assert np.isfinite([pair.error for pair in shared.evidence.pairs]).all()


def test_undetermined_rotations_warn(rng):
    with pytest.warns(
        latalign.IllConditionedWarning, match="5 anchors determine 4 of 6 directions of the space 'a'"
    ):
        fit_many(seen(rng, n=5, dims=(6, 6)), "rigid")


@pytest.mark.parametrize("method", ["rigid", "ridge"])
def test_moments_of_pairs_are_enough(rng, method):
    models = seen(rng, dims=(6, 9, 7))
    shared = fit_many(models, method)
    folds = {
        (one, other): [Moments.of(models[one][k::5], models[other][k::5]) for k in range(5)]
        for one, other in (("b", "a"), ("a", "c"), ("b", "c"))
    }
    found = fit_many_moments(folds, method)
    assert found.names == ("b", "a", "c")
    single = fit_many_moments({pair: sum(parts[1:], parts[0]) for pair, parts in folds.items()}, method)
    assert single.evidence.cost is None
    for source, target in permutations(models, 2):
        limit = 1e-4 if method == "rigid" else 0.1  # other folds, and another penalty
        assert relative(found.map(source, target).matrix, shared.map(source, target).matrix) < limit
        assert relative(single.map(source, target).matrix, shared.map(source, target).matrix) < max(
            limit, 0.1
        )
        assert single.evidence.pair(source, target).error is None


@pytest.mark.parametrize(("method", "limit"), [("rigid", 1e-5), ("ridge", 1e-5)])
def test_spaces_without_rows_in_common_are_led_to_over_others(rng, method, limit):
    models = rotated(rng, n=3000, dim=6)
    pairs = {}
    for number, (one, other) in enumerate(successive(NAMES)):
        parts = [np.s_[1000 * number + k : 1000 * number + 1000 : 5] for k in range(5)]
        pairs[one, other] = [Moments.of(models[one][part], models[other][part]) for part in parts]
    shared = fit_many_moments(pairs, method)
    for source, target in permutations(models, 2):
        assert relative(shared.map(source, target)(models[source]), models[target]) < limit
    assert shared.evidence.pair("a", "d").anchors == 0
    assert shared.evidence.pair("a", "d").error is None
    assert shared.evidence.pair("a", "b").error is not None


def test_a_map_is_saved_as_any(rng, tmp_path):
    models = seen(rng)
    shared = fit_many(models)
    shared.map("a", "b").save(tmp_path / "a-to-b.safetensors", source="a", target="b")
    again = latalign.AffineMap.load(tmp_path / "a-to-b.safetensors")
    np.testing.assert_array_equal(again(models["a"]), shared.map("a", "b")(models["a"]))
    assert again.evidence.heldout["mse"] == shared.evidence.pair("a", "b").error
    assert again.method == "ridge"


def test_the_correction_finds_more(rng):
    things = rng.normal(size=(600, 10))
    models = {name: things @ rng.normal(size=(10, 40)) + rng.normal(size=(600, 40)) for name in NAMES}
    for method in ("rigid", "ridge"):
        shared = fit_many({name: rows[:400] for name, rows in models.items()}, method)
        plain, corrected = [], []
        after = shared.correction()
        for source, target in permutations(models, 2):
            queries, stored = (
                shared.into(source)(models[source][400:]),
                shared.into(target)(models[target][400:]),
            )
            plain.append(latalign.metrics.recall_score(queries, stored, k=1))
            corrected.append(latalign.metrics.recall_score(after(queries), after(stored), k=1))
        assert np.mean(corrected) > np.mean(plain)


def test_bad_input(rng):
    models = seen(rng, n=40)
    with pytest.raises(ValueError, match="at least 2 spaces; got 1"):
        fit_many([models["a"]])
    with pytest.raises(ValueError, match=r"rows that correspond: the spaces have \{'a': 40, 'b': 39\} rows"):
        fit_many({"a": models["a"], "b": models["b"][:-1]})
    with pytest.raises(ValueError, match="the space 'b' needs a 2-D array"):
        fit_many({"a": models["a"], "b": models["b"][0]})
    with pytest.raises(TypeError, match="the space 'b' needs an array of real numbers"):
        fit_many({"a": models["a"], "b": [["x"]] * 40})
    broken = models["b"].copy()
    broken[3, 2] = np.nan
    with pytest.raises(ValueError, match="the space 'b' needs finite values; 1 of 40 rows"):
        fit_many({**models, "b": broken})
    with pytest.raises(ValueError, match="rows of the space 'b' are the same"):
        fit_many({**models, "b": np.ones((40, 3))})
    with pytest.raises(ValueError, match="method is one of rigid, ridge; got 'affine'"):
        fit_many(models, "affine")
    with pytest.raises(ValueError, match="'rigid' takes no parameter; it got alpha"):
        fit_many(models, "rigid", alpha=1.0)
    with pytest.raises(ValueError, match="at least 1 dimension; got dim=0"):
        fit_many(models, dim=0)
    with pytest.raises(ValueError, match=r"whole numbers; got dim=2\.5"):
        fit_many(models, dim=2.5)
    with pytest.raises(ValueError, match="at least 2 folds; got n_folds=1"):
        fit_many(models, n_folds=1)
    with pytest.raises(ValueError, match="at least 2 pairs of rows; got 1"):
        fit_many([rows[:1] for rows in models.values()])
    with pytest.raises(ValueError, match=r"sample_weight needs one weight a row, shape \(40,\)"):
        fit_many(models, sample_weight=np.ones(3))
    with pytest.raises(KeyError, match="there is no space 'z'"):
        fit_many(models).map("a", "z")


def test_bad_moments(rng):
    models = seen(rng, n=40)
    of = {pair: Moments.of(models[pair[0]], models[pair[1]]) for pair in permutations(models, 2)}
    with pytest.raises(ValueError, match="at least one pair"):
        fit_many_moments({})
    with pytest.raises(TypeError, match="needs Moments, or a sequence of them, for 'a' and 'b'"):
        fit_many_moments({("a", "b"): [models["a"]]})
    with pytest.raises(ValueError, match="every two spaces once; got 'b' and 'a' again"):
        fit_many_moments({pair: of[pair] for pair in (("a", "b"), ("b", "a"))})
    with pytest.raises(ValueError, match="two different spaces of every pair; got 'a' twice"):
        fit_many_moments({("a", "a"): of["a", "b"]})
    with pytest.raises(ValueError, match="nothing leads from 'a' to 'c', 'd'"):
        fit_many_moments({pair: of[pair] for pair in (("a", "b"), ("c", "d"))})
    with pytest.raises(ValueError, match="the space 'b' has 9 dimensions, and 7 as well"):
        fit_many_moments({("a", "b"): of["a", "b"], ("b", "d"): of["c", "d"]})
    with pytest.raises(ValueError, match=r"as many folds of every pair; got \[1, 2\]"):
        fit_many_moments({("a", "b"): of["a", "b"], ("b", "c"): [of["b", "c"]] * 2})
    with pytest.raises(ValueError, match="both Gram matrices; those of 'a' and 'b' lack one"):
        fit_many_moments({("a", "b"): Moments.of(models["a"], models["b"], grams="source")})
