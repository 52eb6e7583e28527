"""A new space joins a shared one: the others stay, and it is nearly as if it had been there from the start."""

import numpy as np
import pytest

from latalign import Moments, fit_many
from problems import NAMES, relative, rotated, seen


def error(shared, models, source, target):
    return np.square(shared.map(source, target)(models[source]) - models[target]).mean()


@pytest.mark.parametrize("method", ["rigid", "ridge"])
def test_the_others_stay_bit_by_bit(rng, method):
    models = seen(rng)
    shared = fit_many({name: models[name] for name in NAMES[:3]}, method)
    before = {
        name: (shared.into(name).matrix.copy(), shared.back(name).matrix.copy()) for name in shared.names
    }
    more = shared.join("d", models["d"], {"a": models["a"], "c": models["c"]})
    assert shared.names == NAMES[:3]
    assert more.names == NAMES
    assert more.agreement is shared.agreement
    for name in shared.names:
        assert more.into(name) is shared.into(name)
        assert more.back(name) is shared.back(name)
        np.testing.assert_array_equal(more.into(name).matrix, before[name][0])
        np.testing.assert_array_equal(more.back(name).matrix, before[name][1])
    assert more.evidence.pairs[:6] == shared.evidence.pairs
    assert len(more.evidence.pairs) == 12
    assert more.evidence.pair("d", "a").anchors == 300
    assert more.evidence.pair("d", "a").error == pytest.approx(
        more.evidence.pair("d", "a").direct_error, rel=0.3
    )
    assert more.evidence.pair("d", "b").anchors == 0
    assert more.evidence.pair("d", "b").error is None


@pytest.mark.parametrize("method", ["rigid", "ridge"])
@pytest.mark.parametrize("known", [("a",), ("a", "b", "c")])
def test_a_rotation_of_the_others_joins_exactly(rng, method, known):
    models = rotated(rng, n=100)
    shared = fit_many({name: models[name] for name in NAMES[:3]}, method)
    more = shared.join("d", models["d"][:50], {name: models[name][:50] for name in known})
    for name in NAMES[:3]:
        assert relative(more.map("d", name)(models["d"]), models[name]) < 1e-6
        assert relative(more.map(name, "d")(models[name]), models["d"]) < 1e-6


@pytest.mark.parametrize("method", ["rigid", "ridge"])
def test_it_does_nearly_as_well_as_if_it_had_been_there(rng, method):
    models = seen(rng, n=2000)
    train, test = (
        {name: rows[part] for name, rows in models.items()} for part in (np.s_[:1000], np.s_[1000:])
    )
    together = fit_many(train, method)
    shared = fit_many({name: train[name] for name in NAMES[:3]}, method)
    more = shared.join("d", train["d"], {name: train[name] for name in NAMES[:3]})
    for name in NAMES[:3]:
        for edge in (("d", name), (name, "d")):
            assert error(more, test, *edge) < 1.1 * error(together, test, *edge)
            assert error(more, test, *edge) == pytest.approx(more.evidence.pair(*edge).error, rel=0.2)


def test_the_evidence_of_cycles_is_what_rows_tell(rng):
    models = seen(rng)
    more = fit_many({name: models[name] for name in NAMES[:3]}).join("d", models["d"], {"b": models["b"]})
    X = models["d"]
    there = more.map("d", "b")(X)
    spread = np.square(X - X.mean(axis=0)).sum()
    pair = more.evidence.pair("d", "b")
    assert np.square(more.map("b", "d")(there) - X).sum() / spread == pytest.approx(pair.round_trip)
    ways = [more.map(middle, "b")(more.map("d", middle)(X)) for middle in ("a", "c")]
    apart = np.mean([np.square(way - there).sum() for way in ways])
    assert apart / np.square(models["b"] - models["b"].mean(axis=0)).sum() == pytest.approx(pair.detour)
    assert pair.direct_detour is None


def test_moments_do_as_rows(rng):
    models = seen(rng)
    shared = fit_many({name: models[name] for name in NAMES[:3]}, "rigid")
    rows = shared.join("d", models["d"], {"a": models["a"], "b": models["b"]})
    known = {name: Moments.of(models["d"], models[name]) for name in ("a", "b")}
    found = shared.join_moments("d", known)
    assert relative(found.map("d", "c").matrix, rows.map("d", "c").matrix) < 1e-12
    assert found.evidence.pair("d", "a").error is None
    folds = {
        name: [Moments.of(models["d"][k::5], models[name][k::5]) for k in range(5)] for name in ("a", "b")
    }
    assert shared.join_moments("d", folds).evidence.pair("d", "a").error is not None


def test_bad_input(rng):
    models = seen(rng, n=40)
    shared = fit_many({name: models[name] for name in NAMES[:3]})
    with pytest.raises(ValueError, match="there is a space 'a' already"):
        shared.join("a", models["d"], {"b": models["b"]})
    with pytest.raises(ValueError, match="the same rows in at least one space"):
        shared.join("d", models["d"], {})
    with pytest.raises(ValueError, match="there is no space 'z'; there are: 'a', 'b', 'c'"):
        shared.join("d", models["d"], {"z": models["a"]})
    with pytest.raises(ValueError, match="the space 'a' has 6 dimensions; the rows given have 9"):
        shared.join("d", models["d"], {"a": models["b"]})
    with pytest.raises(ValueError, match=r"rows that correspond: the spaces have \{'d': 40, 'a': 10\}"):
        shared.join("d", models["d"], {"a": models["a"][:10]})
    with pytest.raises(ValueError, match="rows of the space 'd' are the same"):
        shared.join("d", np.ones((40, 2)), {"a": models["a"]})
    with pytest.raises(TypeError, match="needs Moments, or a sequence of them, for 'd' and 'a'"):
        shared.join_moments("d", {"a": models["a"]})
