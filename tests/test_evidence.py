"""The record of how a map was found, as JSON and back."""

import math

import pytest

from latalign import Candidate, Evidence

RECORD = {"anchors": 9, "rank": 3, "condition": 2.0, "error_bound": 1e-15}


def test_there_and_back():
    evidence = Evidence(
        9,
        3,
        math.inf,
        1e-15,
        alpha=0.5,
        target_rank=2,
        scoring="mse",
        baseline=1.0,
        candidates=(Candidate("rigid", 0.1, 0.01), Candidate("ridge", 0.2, 0.02, alpha=3.0)),
        heldout={"rows": 20.0, "mse": 0.25},
    )
    record = evidence.to_json()
    assert record["condition"] is None  # JSON has no word for infinity
    assert Evidence.from_json(record) == evidence


def test_a_figure_that_is_no_number_stays_none():
    """A constant target has no R²."""
    found = Evidence.from_json(Evidence(9, 3, 2.0, 1e-15, heldout={"mse": 1.0, "r2": math.nan}).to_json())
    assert found.heldout["mse"] == 1.0
    assert math.isnan(found.heldout["r2"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"heldout": {"mse": "small"}}, r"evidence\.heldout\.mse has the wrong type, str"),
        ({"heldout": {"mse": True}}, r"evidence\.heldout\.mse has the wrong type, bool"),
        ({"heldout": {"mse": {"of": 1}}}, r"evidence\.heldout\.mse has the wrong type, dict"),
        ({"heldout": [1.0]}, r"evidence\.heldout has the wrong type, list"),
        ({"anchors": -5}, r"evidence\.anchors is less than zero: -5"),
        ({"rank": -1}, r"evidence\.rank is less than zero"),
        ({"target_rank": -1}, r"evidence\.target_rank is less than zero"),
        ({"rank": True}, r"evidence\.rank has the wrong type, bool"),
        ({"candidates": [{"method": "rigid", "error": 1.0}]}, "candidate lacks a field"),
    ],
)
def test_an_unsound_record_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        Evidence.from_json({**RECORD, **change})
