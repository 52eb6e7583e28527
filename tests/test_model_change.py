"""The verdict on an index whose embedding model changed."""

import json
import math
import statistics
import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import skew

import latalign
from latalign import metrics
from latalign.bridging import Crossing
from latalign.crowding import csls_relevant_ranks, index_hubness
from latalign.model_change import _needed, _Resampling
from latalign.searching import Index, nearest, relevant_ranks
from latalign.verdicts import Interval
from problems import model_change

QUERIES, DOCUMENTS, ANCHORS, DIM = 150, 400, 300, 12  # of a model_change


def brute_force_ranks(queries, index, relevant):
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, index))
    cosines = x @ y.T
    return np.array(
        [
            [0 if k < 0 else int((cosines[q] >= cosines[q, k] - 1e-9).sum()) for k in row]
            for q, row in enumerate(relevant)
        ]
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("block", [None, 37])
def test_ranks_are_those_of_all_similarities(rng, monkeypatch, dtype, block):
    if block:
        monkeypatch.setattr("latalign.searching._BLOCK_VALUES", 50 * block)
    queries, rows = rng.normal(size=(50, 6)).astype(dtype), rng.normal(size=(300, 4)).astype(dtype)
    rows[17] = rows[3]  # equal rows: the relevant one comes last
    to = latalign.AffineMap.of(rng.normal(size=(4, 6)), rng.normal(size=6))
    relevant = rng.integers(-1, 300, size=(50, 3))
    relevant[0] = 3, 17, -1
    expected = brute_force_ranks(queries.astype(float), to(rows.astype(float)), relevant)
    found = relevant_ranks(queries, Index(rows, to), relevant)
    if dtype is np.float64:
        np.testing.assert_array_equal(found, expected)
    else:
        assert np.abs(found - expected).max() <= 2  # neighbors whose order is float32's rounding
    assert found[0, 0] == found[0, 1]
    near = nearest(queries, Index(rows, to), 7)
    x, y = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (queries, to(rows)))
    cosines = np.take_along_axis(x @ y.T, near, axis=1)
    np.testing.assert_allclose(cosines, -np.sort(-(x @ y.T), axis=1)[:, :7], atol=1e-5)


def test_a_row_is_found_however_its_map_is_rounded(rng, monkeypatch):
    # Where large terms cancel, float32 maps a row differently in blocks of different size.
    monkeypatch.setattr("latalign.searching._BLOCK_VALUES", 50 * 37)
    rows = rng.normal(size=(300, 6)).astype(np.float32)
    rough = Index(rows, lambda block: block + 0.05 * rng.normal(size=block.shape).astype(np.float32))
    found = relevant_ranks(rows[:50], rough, np.arange(50)[:, None])
    assert found.min() == 1
    assert np.median(found) == 1


def test_zero_rows_are_never_found_before_others():
    index = np.array([[0.0, 0.0], [1.0, 0.0]])
    found = relevant_ranks(np.array([[1.0, 0.1], [0.0, 0.0]]), Index(index), np.array([[0], [1]]))
    np.testing.assert_array_equal(found, [[2], [2]])


@pytest.mark.parametrize(
    ("expected", "models"),
    [
        ("keep", {"new_noise": 1.0}),
        ("bridge", {"asking_noise": 0.8}),
        ("re-embed", {"old_noise": 1.2, "apart": 1.0, "asked": 0.1}),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_the_right_thing_is_done(seed, expected, models):
    found = latalign.verdict(**model_change(np.random.default_rng(seed), **models))
    assert found.choice == expected
    assert found.a_map_beats_keeping == (expected == "bridge" or found.option("documents").beats_keeping)
    assert [one.name for one in found.options] == ["keep", "bridge", "documents", "re-embed"]


@pytest.mark.parametrize("seed", range(3))
def test_documents_are_mapped_where_a_map_of_queries_loses_more(seed):
    # Nearly all that the old model shows of a row is in a few dimensions, so that a bridge into its space
    # finds no more than it did. The others are there, if small: a map out of it brings them back.
    rng = np.random.default_rng(seed)
    case = model_change(rng, asked=0.3)
    stretch = np.geomspace(30, 0.03, DIM)
    for name in ("old_anchors", "old_index", "old_queries"):
        case[name] = case[name] * stretch
    found = latalign.verdict(**case)
    assert found.choice == "documents"
    assert found.a_map_beats_keeping
    assert found.option("bridge").recall_at_10 < found.option("documents").recall_at_10


def test_figures_are_those_of_the_queries(rng):
    case = model_change(rng, old_noise=0.5)
    found = latalign.verdict(**case).option("keep")
    ranks = brute_force_ranks(case["old_queries"], case["old_index"], case["relevant"][:, None])[:, 0]
    assert found.recall_at_1 == (ranks == 1).mean()
    assert found.recall_at_10 == pytest.approx((ranks <= 10).mean())
    assert found.mrr == pytest.approx((1 / ranks).mean())
    assert (found.gain, found.method, found.queries_needed) == (None, None, None)


def test_several_relevant_rows(rng):
    case = model_change(rng, old_noise=0.5)
    relevant = np.full((QUERIES, 3), -1)
    relevant[:, 1] = np.arange(QUERIES)
    one = latalign.verdict(**{**case, "relevant": relevant})
    assert one == latalign.verdict(**case)
    relevant[:, 0] = np.arange(QUERIES)  # named twice, counted once
    assert latalign.verdict(**{**case, "relevant": relevant}) == one
    relevant[:, 2] = np.arange(QUERIES)[::-1]
    two = latalign.verdict(**{**case, "relevant": relevant}).option("keep")
    ranks = brute_force_ranks(case["old_queries"], case["old_index"], relevant[:, 1:])
    different = relevant[:, 1] != relevant[:, 2]
    ranks[~different, 1] = 0
    there = 1 + different
    assert two.recall_at_10 == pytest.approx((((ranks > 0) & (ranks <= 10)).sum(1) / there).mean())
    assert two.recall_at_1 == pytest.approx(((ranks == 1).sum(1)).mean())


def test_without_relevant_rows_the_new_neighbors_are_the_truth(rng):
    case = model_change(rng, old_noise=0.5)
    del case["relevant"]
    found = latalign.verdict(**case)
    anew = found.option("re-embed")
    assert (anew.recall_at_1, anew.recall_at_10, anew.mrr) == (1, 1, 1)
    assert found.truth == "neighbors in the new index"
    assert found.choice != "re-embed"  # it is right by definition
    x, y = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in (case["new_queries"], case["new_index"])
    )
    truth = np.argsort(-(x @ y.T), axis=1)[:, :10]
    ranks = brute_force_ranks(case["old_queries"], case["old_index"], truth)
    assert found.option("keep").recall_at_10 == pytest.approx((ranks <= 10).mean())
    assert found.option("keep").recall_at_1 == pytest.approx((ranks[:, 0] == 1).mean())


def test_what_is_tested_is_not_fitted(rng):
    case = model_change(rng, old_noise=0.5)
    plain = latalign.verdict(**case)
    tested = {
        "old_anchors": np.concatenate([case["old_anchors"], case["old_index"][:40], case["old_queries"][:5]]),
        "new_anchors": np.concatenate([case["new_anchors"], case["new_index"][:40], case["new_queries"][:5]]),
    }
    found = latalign.verdict(**{**case, **tested})
    assert (found.anchors, found.anchors_left_out) == (ANCHORS, 45)
    assert found.options == plain.options
    # An index may keep rows of length one, in few digits.
    unit = case["old_index"][:40] / np.linalg.norm(case["old_index"][:40], axis=1, keepdims=True)
    copies = {
        "old_anchors": np.concatenate([case["old_anchors"], unit.astype(np.float16)]),
        "new_anchors": np.concatenate([case["new_anchors"], rng.normal(size=(40, DIM))]),
    }
    assert latalign.verdict(**{**case, **copies}).anchors_left_out == 40
    # Rows of the index that nobody asks for may be anchors.
    beside = {
        "old_anchors": np.concatenate([case["old_anchors"], case["old_index"][QUERIES:]]),
        "new_anchors": np.concatenate([case["new_anchors"], case["new_index"][QUERIES:]]),
    }
    assert latalign.verdict(**{**case, **beside}).anchors_left_out == 0
    only = {"old_anchors": case["old_index"][:QUERIES], "new_anchors": case["new_index"][:QUERIES]}
    with pytest.raises(ValueError, match=f"of {QUERIES} anchors 0 are left"):
        latalign.verdict(**{**case, **only})


@pytest.mark.parametrize("seed", range(3))
def test_an_interval_that_contains_zero_says_how_many_queries_are_needed(seed):
    case = model_change(np.random.default_rng(seed), old_noise=0.3, new_noise=0.3)
    few = {name: rows[:12] if len(rows) == QUERIES else rows for name, rows in case.items()}
    option = latalign.verdict(**few).option("documents")
    assert option.gain.low <= 0 <= option.gain.high
    assert (option.queries_needed is None) == (option.gain.value == 0)
    assert option.queries_needed is None or option.queries_needed > 12


@pytest.mark.parametrize(
    "more", [np.full(12, 0.1), np.full(12, 0.01), np.full(3, 1.0), np.array([0.1, -0.1, 0.1, 0.2])]
)
def test_how_many_queries_are_needed(more):
    """As many as a z-test takes for a power of 0.8, told by the spread with one query won outright on either side."""
    found = _needed(more, Interval(float(more.mean()), -1.0, 1.0))
    values = [*more, -1.0, 1.0]
    variance = statistics.variance(values)
    z = statistics.NormalDist().inv_cdf(0.975) + statistics.NormalDist().inv_cdf(0.8)
    assert found == max(math.ceil(z**2 * variance / more.mean() ** 2), len(more) + 1)
    assert found > len(more)


def test_anchors_that_are_unrelated_are_told_of_once(rng):
    case = model_change(rng)
    case["new_anchors"] = case["new_anchors"][rng.permutation(ANCHORS)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", latalign.UnrelatedPairsWarning)
        latalign.verdict(**case)
    told = [str(one.message) for one in caught if one.category is latalign.UnrelatedPairsWarning]
    assert len(told) == 1
    assert told[0].startswith("verdict: the pairs cannot be told from shuffled ones")


def test_none_are_needed_where_the_interval_is_off_zero_or_there_is_no_gain():
    more = np.full(12, 0.1)
    assert _needed(more, Interval(0.1, 0.05, 0.2)) is None
    assert _needed(0 * more, Interval(0.0, -0.1, 0.1)) is None


@pytest.mark.parametrize(
    ("size", "p"), [(300, [0.1, 0.6, 0.3]), (25, [0.1, 0.6, 0.3]), (25, [0.0, 0.9, 0.1])]
)
def test_intervals_cover_the_mean(rng, size, p):
    covered = 0
    for seed in range(200):
        found = _Resampling(300, seed).mean(rng.choice([-1.0, 0.0, 1.0], p=p, size=size))
        covered += found.low <= p[2] - p[0] <= found.high
    assert covered >= 178  # 190 expected; four standard deviations below


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_a_few_queries_that_agree_are_no_certainty(value):
    one, few, many = (_Resampling(2000, 0).mean(np.full(count, value)) for count in (1, 3, 1000))
    for found in (one, few):
        assert found.low < 0 < found.high
        assert found.value == value
    assert many.high - many.low < 0.01
    assert (many.low > 0 or many.high < 0) == bool(value)


def test_too_few_queries_cannot_tell(rng):
    case = model_change(rng, old_noise=0.3, new_noise=0.3)
    few = {name: rows[:3] if len(rows) == QUERIES else rows for name, rows in case.items()}
    found = latalign.verdict(**few)
    assert found.choice == "cannot tell"
    assert not found.a_map_beats_keeping
    # With all of them, the old model and a map to it are told apart or not; a map never wins by chance alone.
    same = {**case, "new_queries": case["old_queries"], "new_anchors": case["old_anchors"]}
    del same["new_index"]
    found = latalign.verdict(**same)
    assert (found.choice, found.option("bridge").gain.value) == ("cannot tell", 0)
    assert found.option("bridge").method == "none"


def test_maps_are_chosen_by_what_held_out_anchors_find(rng):
    case = model_change(rng, asking_noise=0.8)
    # All rows of the old model point one way, and the queries of it lie elsewhere.
    for name in ("old_anchors", "old_index", "old_queries"):
        case[name] = case[name] + 5.0
    found = latalign.verdict(**case)
    for name in ("bridge", "documents"):
        option = found.option(name)
        scores = [one.mrr for one in option.tried]
        assert scores == sorted(scores, reverse=True)
        bending = ("local_retrieval",) if name == "bridge" else ()
        assert {(one.method, one.way) for one in option.tried} == {
            (method, way)
            for method in ("none", *latalign.METHODS, *bending)
            for way in ("as it is", "less the mean")
        }
        assert option.method == option.tried[0].method
    # What is given is what was measured.
    bridge, documents = found.option("bridge"), found.option("documents")
    wanted = case["relevant"][:, None]
    assert bridge.index_map is None
    ranks = brute_force_ranks(bridge.query_map(case["new_queries"]), case["old_index"], wanted)
    assert bridge.mrr == pytest.approx((1 / ranks).mean())
    queries = case["new_queries"] if documents.query_map is None else documents.query_map(case["new_queries"])
    ranks = brute_force_ranks(queries, documents.index_map(case["old_index"]), wanted)
    assert documents.mrr == pytest.approx((1 / ranks).mean())


def test_a_bent_bridge_is_chosen_and_written_where_the_spaces_bend(rng, tmp_path):
    part = rng.integers(2, size=1450)
    latent = rng.normal(size=(1450, 8))
    middle = 2 * rng.normal(size=(2, 8))
    turns = np.linalg.qr(rng.normal(size=(2, 8, 8)))[0]
    new, old = latent + middle[part], np.einsum("ni,nij->nj", latent, turns[part])
    held = slice(1000, 1450)
    given = (
        old[:1000],
        new[:1000],
        old[held],
        old[held][:150] + 5 * rng.normal(size=(150, 8)),
        new[held][:150],
    )
    found = latalign.verdict(*given, relevant=np.arange(150))
    bridge = found.option("bridge")
    assert (bridge.method, found.choice) == ("local_retrieval", "bridge")
    assert {one.method for one in found.option("documents").tried}.isdisjoint({"local_retrieval"})
    [file] = found.save_map(tmp_path / "bridge.safetensors").values()
    np.testing.assert_array_equal(latalign.load_map(file)(new[held]), bridge.query_map(new[held]))


def test_more_anchors_than_the_map_that_bends_takes(rng, monkeypatch):
    for module in (latalign.bending, latalign.bridging):
        monkeypatch.setattr(module, "MOST_ANCHORS", ANCHORS - 10)  # four fifths of them would do
    found = latalign.verdict(**model_change(rng))
    assert {one.method for one in found.option("bridge").tried} == {"none", *latalign.METHODS}


class TestUnpairedQueries:
    def test_what_they_have_in_common_is_taken_off(self, rng):
        case = model_change(rng, new_noise=0.3)
        case["new_queries"] = case["new_queries"] + 3.0
        plain = latalign.verdict(**case).option("bridge")
        known = case["new_queries"][:100] + 0.3 * rng.normal(size=(100, DIM))
        better = latalign.verdict(**case, unpaired_queries=known).option("bridge")
        assert plain.tried == better.tried  # they choose nothing
        if latalign.querying.is_for_searching(plain.method):
            expected = latalign.for_queries(plain.query_map, known)
            np.testing.assert_allclose(better.query_map(known), expected(known))
            assert better.mrr > plain.mrr

    def test_a_map_that_is_not_for_queries_stays(self):
        straight = Crossing(latalign.AffineMap.of(np.eye(2)), None)
        assert straight.for_queries(np.ones((40, 2))) is straight
        searching = Crossing(replace(latalign.AffineMap.of(np.eye(2)), method="retrieval"), None)
        np.testing.assert_array_equal(
            searching.for_queries(np.ones((40, 2))).query_map(np.ones((1, 2))), [[0, 0]]
        )

    def test_bad_ones(self, rng):
        case = model_change(rng)
        with pytest.raises(
            ValueError, match="verdict: the unpaired queries needs rows of 12 dimensions; got 3"
        ):
            latalign.verdict(**case, unpaired_queries=np.zeros((4, 3)))
        with pytest.raises(ValueError, match="unpaired queries that are no test queries; all 5 are"):
            latalign.verdict(**case, unpaired_queries=2 * case["new_queries"][:5])


def test_the_test_queries_choose_no_map(rng):
    case = model_change(rng)
    one = latalign.verdict(**case)
    shuffled = {**case, "relevant": rng.permutation(case["relevant"])}
    other = latalign.verdict(**shuffled)
    for name in ("bridge", "documents"):
        assert one.option(name).tried == other.option(name).tried
    assert other.option("bridge").mrr < one.option("bridge").mrr


def test_the_record_is_plain_json_and_the_call_repeats(rng):
    case = model_change(rng, old_noise=0.5)
    one, two = latalign.verdict(**case), latalign.verdict(**case)
    assert one == two
    record = json.loads(json.dumps(one.to_json(), allow_nan=False))
    assert record["options"][1]["gain"]["low"] == one.option("bridge").gain.low
    del case["new_index"]
    without = latalign.verdict(**case)
    assert [option.name for option in without.options] == ["keep", "bridge", "documents"]
    with pytest.raises(KeyError, match="needs a new index"):
        without.option("re-embed")


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"relevant": np.full(QUERIES, DOCUMENTS)}, ValueError, "in the index, from 0 to 399; 150 queries"),
        ({"relevant": np.full(QUERIES, -2)}, ValueError, r"the first is query 0: \[-2\]"),
        ({"relevant": np.full(QUERIES, -1)}, ValueError, "150 queries have none"),
        ({"relevant": np.zeros(QUERIES)}, TypeError, "whole numbers; got float64"),
        ({"relevant": np.zeros(3, int)}, ValueError, r"for each of 150 queries; got shape \(3, 1\)"),
        ({"relevant": None, "new_index": None}, ValueError, "what a query should find"),
        ({"old_queries": np.ones((QUERIES, 5))}, ValueError, "of as many dimensions; got the old anchors 12"),
        ({"new_queries": np.ones((QUERIES, 5))}, ValueError, "the new queries 5"),
        ({"new_index": np.ones((7, DIM))}, ValueError, "old index and new index of as many rows"),
        ({"old_anchors": np.ones((7, DIM))}, ValueError, "Row i of them must be the same thing"),
        ({"old_queries": np.full((QUERIES, DIM), np.nan)}, ValueError, "the old queries needs finite values"),
        ({"old_index": np.ones(DIM)}, ValueError, "the old index needs a 2-D array"),
        ({"n_resamples": 10}, ValueError, "n_resamples of at least 100"),
        ({"random_state": "a"}, TypeError, "verdict needs a random_state"),
    ],
)
def test_bad_input(rng, changed, error, words):
    with pytest.raises(error, match=words):
        latalign.verdict(**{**model_change(rng), **changed})


# Relevant rows by their ids, and lists of them ------------------------------------------------------


@pytest.mark.parametrize("kind", [int, str])
def test_ids_name_the_rows(rng, kind):
    case = model_change(rng, old_noise=0.5)
    plain = latalign.verdict(**case)
    ids = np.array([kind(1000 + number) for number in rng.permutation(DOCUMENTS)])
    named = {**case, "relevant": ids[case["relevant"]], "index_ids": ids}
    assert latalign.verdict(**named) == plain
    lists = [[one, None] if number % 2 else [one] for number, one in enumerate(named["relevant"].tolist())]
    assert latalign.verdict(**{**named, "relevant": lists}) == plain


def test_lists_of_unequal_length(rng):
    case = model_change(rng, old_noise=0.5)
    padded = np.full((QUERIES, 3), -1)
    padded[:, 0] = np.arange(QUERIES)
    padded[::3, 1] = np.arange(QUERIES)[::3] + 5
    lists = [[int(one) for one in row if one >= 0] for row in padded]
    expected = latalign.verdict(**{**case, "relevant": padded})
    assert latalign.verdict(**{**case, "relevant": lists}) == expected
    objects = np.empty(QUERIES, object)
    objects[:] = [np.array(one) for one in lists]  # a column of lists, as pandas has it
    assert latalign.verdict(**{**case, "relevant": objects}) == expected


@pytest.mark.parametrize(
    ("relevant", "ids", "error", "words"),
    [
        (
            ["x"] * QUERIES,
            [f"d{k}" for k in range(DOCUMENTS)],
            ValueError,
            r"index_ids\); 150 queries .*\['x'\]",
        ),
        (["d1"] * QUERIES, ["d1"] * DOCUMENTS, ValueError, "'d1' is there twice"),
        (
            ["d1"] * QUERIES,
            [f"d{k}" for k in range(7)],
            ValueError,
            r"of 400 rows of the index; got shape \(7,\)",
        ),
        ([1] * QUERIES, [f"d{k}" for k in range(DOCUMENTS)], TypeError, "of one kind; got numbers and texts"),
        ([[]] * QUERIES, range(DOCUMENTS), ValueError, "150 queries have none"),
        ([None] * QUERIES, None, ValueError, "150 queries have none"),
        (["d1"] * QUERIES, None, TypeError, "whole numbers; got <U2. Ids go with those of the index"),
        ([[1, 2.5]] * QUERIES, None, TypeError, "whole numbers; got float64"),
        (None, range(DOCUMENTS), ValueError, "relevant ids to go with index_ids"),
    ],
)
def test_wrong_ids(rng, relevant, ids, error, words):
    with pytest.raises(error, match=words):
        latalign.verdict(**{**model_change(rng), "relevant": relevant, "index_ids": ids})


# Hubs -----------------------------------------------------------------------------------------------


def csls_by_hand(queries, index, relevant, k=10):
    """The definition, one query at a time, which is not among those that tell how crowded it is."""
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, index))
    cosines = x @ y.T
    out = np.zeros(relevant.shape, int)
    for q, row in enumerate(relevant):
        others = np.sort(np.delete(cosines, q, 0), axis=0)
        scores = 2 * cosines[q] - others[-min(k, len(others)) :].mean(axis=0)
        out[q] = [0 if one < 0 else (scores >= scores[one] - 1e-9).sum() for one in row]
    return out


@pytest.mark.parametrize("count", [2, 9, 60])
@pytest.mark.parametrize("block", [None, 37])
def test_ranks_by_csls(rng, monkeypatch, count, block):
    if block:
        monkeypatch.setattr("latalign.crowding._BLOCK_VALUES", count * block)
    queries, rows = rng.normal(size=(count, 6)), rng.normal(size=(200, 4))
    rows[17] = rows[3]
    to = latalign.AffineMap.of(rng.normal(size=(4, 6)), rng.normal(size=6))
    relevant = rng.integers(-1, 200, size=(count, 3))
    relevant[0] = 3, 17, -1
    found = csls_relevant_ranks(queries, Index(rows, to), relevant)
    np.testing.assert_array_equal(found, csls_by_hand(queries, to(rows), relevant))
    assert found[0, 0] == found[0, 1]


def test_queries_that_have_nothing_to_do_with_the_index_find_by_csls_what_chance_finds(rng):
    recalls = []
    for _ in range(30):
        queries, rows = rng.normal(size=(60, 8)), rng.normal(size=(100, 8))
        found = csls_relevant_ranks(queries, Index(rows), np.arange(60)[:, None])
        recalls.append((found <= 10).mean())
    assert abs(np.mean(recalls) - 0.1) < 0.02  # five standard errors


def test_hubs_are_told_and_corrected_for(rng):
    documents = rng.normal(size=(400, 12))
    queries, own = documents[:150] + 0.5 * rng.normal(size=(150, 12)), np.arange(150)[:, None]
    before = index_hubness(queries, Index(documents))
    # All queries have something in common, and so have a few of the documents.
    queries += 1
    documents[380:] += 1
    index = Index(documents)
    assert index_hubness(queries, index) > 4 * before
    plain = (relevant_ranks(queries, index, own) <= 10).mean()
    assert (csls_relevant_ranks(queries, index, own) <= 10).mean() > plain + 0.1


def test_an_option_has_the_figures_by_csls(rng):
    case = model_change(rng, old_noise=0.5)
    found = latalign.verdict(**case).option("keep")
    ranks = csls_by_hand(case["old_queries"], case["old_index"], case["relevant"][:, None])
    assert found.csls_recall_at_10 == pytest.approx((ranks <= 10).mean())
    assert found.csls_recall_at_1 == pytest.approx((ranks == 1).mean())
    counts = metrics.k_occurrence(case["old_queries"], case["old_index"], 10)
    assert found.hubness == pytest.approx(skew(counts))


# The chosen map in a file ---------------------------------------------------------------------------


def test_the_map_of_the_queries(rng, tmp_path):
    found = latalign.verdict(**model_change(rng, asking_noise=0.8))
    assert found.choice == "bridge"
    assert found.save_map(tmp_path / "map.safetensors") == {"queries": tmp_path / "map.safetensors"}
    again = latalign.load_map(tmp_path / "map.safetensors")
    np.testing.assert_array_equal(again.matrix, found.option("bridge").query_map.matrix)
    assert [path.name for path in tmp_path.iterdir()] == ["map.safetensors"]


@pytest.mark.parametrize("less_the_mean", [True, False])
def test_the_maps_of_documents(rng, tmp_path, less_the_mean):
    case = model_change(rng, asking_noise=0.8)
    verdict = latalign.verdict(**case)
    documents = verdict.option("documents")
    mean = latalign.AffineMap.of(np.eye(DIM), -np.ones(DIM))
    documents = replace(documents, query_map=mean if less_the_mean else None)
    verdict = replace(verdict, choice="documents", options=(documents,))
    files = verdict.save_map(tmp_path / "map.safetensors")
    assert set(files) == ({"documents", "queries"} if less_the_mean else {"documents"})
    again = latalign.load_map(files["documents"])
    np.testing.assert_array_equal(again.matrix, documents.index_map.matrix)
    if less_the_mean:
        assert files["queries"].name == "map.queries.safetensors"
        np.testing.assert_array_equal(
            latalign.load_map(files["queries"])(np.ones((2, DIM))), np.zeros((2, DIM))
        )


def test_no_map_is_written_where_none_was_chosen(rng, tmp_path):
    found = latalign.verdict(**model_change(rng, new_noise=1.0))
    with pytest.raises(ValueError, match="needs a verdict for a map, bridge or documents; it is 'keep'"):
        found.save_map(tmp_path / "map.safetensors")
    assert not any(tmp_path.iterdir())
