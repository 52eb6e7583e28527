"""Arrays of any scale, dtype and layout, and what may be said of them."""

import warnings

import numpy as np
from hypothesis import strategies as st

import latalign

DTYPES = [np.float16, np.float32, np.float64, np.int8, np.int64, np.uint16]

KINDS = [
    "plain",
    "extreme",
    "a scale a column",
    "far from zero",
    "subnormal",
    "constant column",
    "duplicate",
    "zeros and ones",
]


@st.composite
def arrays(draw, rows, dim):
    """Rows of one dtype, scale, and layout in memory."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, dim))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    kind = draw(st.sampled_from(KINDS))
    if kind == "extreme":
        values *= 10.0 ** draw(st.integers(-30, 30))
    elif kind == "a scale a column":
        values *= 10.0 ** rng.integers(-30, 31, dim)
    elif kind == "far from zero":
        values += 10.0 ** draw(st.integers(3, 12))
    elif kind == "subnormal":
        values *= 0.01 * float(np.finfo(dtype).tiny) if dtype.kind == "f" else 1e-310
    elif kind == "constant column":
        values[:, 0] = draw(st.sampled_from([0.0, 0.1, 1e6]))
    elif kind == "duplicate":
        values[:, -1] = values[:, 0]
    elif kind == "zeros and ones":
        values = (values > 0).astype(np.float64)
    if dtype.kind in "iu":
        values = np.clip(values, 0 if dtype.kind == "u" else -1, 1) * 100
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        out = values.astype(dtype)
    layout = draw(st.sampled_from(["C", "F", "every other", "backward", "read-only"]))
    if layout == "F":
        out = np.asfortranarray(out)
    elif layout == "every other":
        out = np.repeat(np.repeat(out, 2, axis=0), 2, axis=1)[::2, ::2]
    elif layout == "backward":
        out = out[::-1].copy()[::-1]
    elif layout == "read-only":
        out.setflags(write=False)
    return out


@st.composite
def paired(draw):
    """Rows that correspond, the two sides of different scale, dtype and layout."""
    rows = draw(st.integers(2, 40))
    return draw(arrays(rows, draw(st.integers(1, 9)))), draw(arrays(rows, draw(st.integers(1, 9))))


@st.composite
def weights(draw, rows):
    """Weights of any scale, some of them zero, or None."""
    if draw(st.booleans()):
        return None
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found = rng.uniform(0.1, 1, rows) * 10.0 ** draw(st.integers(-30, 30))
    found[rng.random(rows) < draw(st.sampled_from([0, 0.3]))] = 0
    return found


REFUSALS = ("NaN or infinity", "are the same", "too small for their squares", "overflow")


def answers(call, *more):
    """Return the answer, or None where the call refused in words that tell why; `more` may be said too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", latalign.IllConditionedWarning)
        warnings.simplefilter("ignore", latalign.UnrelatedPairsWarning)
        warnings.filterwarnings("ignore", "compare: no more than k=")
        try:
            return call()
        except ValueError as error:
            said = str(error)
    assert any(words in said for words in (*REFUSALS, *more)), said
    return None


def degenerate(rows):
    """Tell whether rows are refused with good reason: not finite, or all the same to rounding."""
    values = rows.astype(np.float64)
    if not np.isfinite(values).all():
        return True
    spread = np.abs(values - values[0]).max()
    return spread <= max(1e-12 * np.abs(values).max(), 1e-150)  # the square of less than that vanishes
