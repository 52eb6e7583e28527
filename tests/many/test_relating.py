"""Rows that do not correspond: warned of, or refused where that is asked for."""

import numpy as np
import pytest

from latalign import UnrelatedPairsWarning, fit_many
from problems import seen


@pytest.fixture
def models(rng):
    found = seen(rng)
    return {"a": found["a"], "b": found["b"], "c": rng.permutation(found["c"])}


def test_fit_many(models):
    with pytest.warns(UnrelatedPairsWarning, match="fit_many, 'b' and 'c': the pairs cannot be told"):
        fit_many(models)
    with pytest.raises(
        ValueError, match=r"fit_many, 'b' and 'c': the pairs cannot be told .*refuse_unrelated"
    ):
        fit_many(models, refuse_unrelated=True)
    two = {name: models[name] for name in "ab"}
    fit_many(two, refuse_unrelated=True)


def test_join(models):
    shared = fit_many({name: models[name] for name in "ab"})
    given = "c", models["c"], {"a": models["a"]}
    with pytest.warns(UnrelatedPairsWarning, match="join, 'c' and 'a': the pairs cannot be told"):
        more = shared.join(*given)
    assert more.names == ("a", "b", "c")
    with pytest.raises(ValueError, match="join, 'c' and 'a': the pairs cannot be told"):
        shared.join(*given, refuse_unrelated=True)
    shared.join(
        "d", models["a"] @ np.ones((models["a"].shape[1], 2)), {"a": models["a"]}, refuse_unrelated=True
    )
