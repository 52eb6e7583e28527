"""`fit`, `evaluate` and `compare` on sources of any size: memory depends on the dimensions alone.

What is small enough is loaded, and treated as arrays in memory are. What is larger is read once, block by
block, and nothing but `Moments` and a bounded sample of the rows is kept.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from latalign import comparison, evaluation, heldout
from latalign._rowsum import AnyPrecision, Buffers, Place
from latalign._validation import Rows, as_generator, require_folds
from latalign.agreement import Progress, measured, require_way
from latalign.bending import require_few
from latalign.dealing import Deal, deal_out, deal_out_on
from latalign.engine import Engine, named_anywhere
from latalign.heldout import HeldoutFit
from latalign.io.arrays import Source, open_rows
from latalign.loading import load_pairs, read_pairs
from latalign.maps import Map
from latalign.on_disk import limited
from latalign.one_pass import FORCE, filled, fit_stream, scored
from latalign.pairing import PairedRows, PairStream, Unmatched, fits, paired
from latalign.querying import LOCAL
from latalign.relation import require_related
from latalign.select import Scoring


def fit_files(
    source: Source,
    target: Source,
    method: str = "auto",
    *,
    id_column: str | None = None,
    unmatched: Unmatched = "error",
    holdout: float = 0.2,
    scoring: Scoring | None = None,
    n_folds: int | None = None,
    precision: AnyPrecision = "double",
    robust: bool = False,
    random_state: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
    refuse_unrelated: bool = False,
    engine: Engine | None = None,
    place: Place = Buffers,
    **parameters: Any,
) -> HeldoutFit:
    """Fit a map to the pairs of two sources of any size, and measure its recipe on some that it does not see.

    Rows that are small enough to be loaded (32 MiB, or fewer than their dimensions) give what
    `latalign.fit_heldout` gives. Of more, one pass sums the moments: folds are drawn by the values of the
    pairs (equal pairs together, of equal size but for chance), the choice among methods is made without
    the pairs that are held out, 2000 of them at most, and the map is then solved from all pairs. "ridge"
    finds its penalty by the generalized score, not by leave-one-out.

    Parameters
    ----------
    source, target : path or object
        Files, folders, patterns or Arrow streams, of one format or of two; see
        `latalign.io.arrays.open_rows`.
    method : str
        As in `latalign.fit`, or "local_retrieval", for which the rows are loaded.
    id_column : str, optional
        The column of both tables that says which rows are the same thing. By order unless given.
    unmatched : {"error", "drop"}
        What becomes of ids that only one side has.
    holdout : float
        The share of the pairs that the second fit does not see; 0 leaves it out.
    scoring, n_folds, precision
        As in `latalign.fit`; at a place of PyTorch also ``"bfloat16"``, see `latalign.torch.moments`. Rows that
        are loaded are then multiplied in float32.
    robust : bool
        As in `latalign.fit`; of pairs that are small enough to be loaded.
    random_state : int
        Draws the folds and the held-out pairs.
    threads : int, optional
        How many threads there may be; as many as there are processors unless given.
    progress : callable, optional
        Called after every block with the number of pairs that are done, and of all pairs or None.
    refuse_unrelated : bool
        Whether pairs that cannot be told from shuffled ones are an error instead of a warning. Of pairs that
        are streamed those that are held out are looked at, or as many others.
    engine : Engine, optional
        Reads and sums the parts of rows that are streamed in other processes or on other machines, see
        `latalign.distributed`: the map is bit for bit that of one process with as many `threads`, of which
        each of its calls has one unless given. Its workers reach the sources by the same paths. The pairs
        are then those by order.
    place : Place
        Where rows that are streamed are multiplied: by NumPy unless given, on a GPU with
        ``latalign.torch.Place("cuda")``.
    **parameters
        The parameters of the method: alpha, rank, reflection, power.

    Returns
    -------
    HeldoutFit

    Raises
    ------
    FileNotFoundError, ModuleNotFoundError
        If there is no such file, or its format needs an extra that is not installed.
    TypeError, ValueError
        If a source is not sound, was changed meanwhile, or does not pair with the other; and as in
        `latalign.fit`. If the precision is bfloat16, and no place is given.

    Warns
    -----
    IllConditionedWarning
        As in `latalign.fit`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import latalign
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "old.npy"), X)
    ...     np.save(Path(folder, "new.npy"), 2 * X)
    ...     found = latalign.fit_files(Path(folder, "old.npy"), Path(folder, "new.npy"), "similarity")
    >>> found.heldout.rows, found.map.evidence.anchors
    (20, 100)
    """
    if precision == "bfloat16" and place is Buffers:
        raise ValueError(
            'fit: precision is "double" or "fast"; "bfloat16" is for a device: give place=latalign.torch.Place("cuda")'
        )
    options: dict[str, Any] = {"scoring": scoring, "n_folds": n_folds, "precision": precision}
    options |= {name: value for name, value in parameters.items() if value is not None}
    if method == LOCAL:
        if robust or precision != "double" or engine is not None or place is not Buffers:
            raise ValueError(
                f"{LOCAL} keeps its anchors, in memory and as they are: it goes without robust, precision, engine "
                "and place"
            )
        del options["precision"]
        if id_column is None:
            require_few(open_rows(source).rows or 0)  # before they are loaded
        with limited(threads):
            X, Y = read_pairs(source, target, id_column=id_column, unmatched=unmatched)
            if refuse_unrelated:
                require_related(X, Y, "fit", FORCE)
            return heldout.fit_heldout(X, Y, method, holdout=holdout, random_state=random_state, **options)
    if engine is not None:
        if place is not Buffers:
            raise ValueError("an engine's workers multiply by NumPy: give an engine or a place, not both")
        if id_column is not None:
            raise ValueError(
                "an engine reads pairs by their order; rows that are joined by an id have none. Leave the engine "
                "out, or write the joined rows to files first."
            )
        source, target = named_anywhere(source), named_anywhere(target)
        threads = threads or 1  # what is solved here as well: the bits are those of one number of threads
    with limited(threads):
        pairs = _opened(source, target, id_column, unmatched, "fit")
        if isinstance(pairs, tuple):
            X, Y = pairs
            if refuse_unrelated:
                require_related(X, Y, "fit", FORCE)
            options["robust"] = robust
            options["precision"] = "double" if precision == "double" else "fast"
            return heldout.fit_heldout(X, Y, method, holdout=holdout, random_state=random_state, **options)
        if robust:
            raise ValueError(
                "a robust fit needs its pairs in memory; these are too many. Take some of them, or weigh the "
                "pairs and give latalign.fit a sample_weight."
            )
        if engine is None:
            dealt_out = partial(deal_out, pairs, threads=threads, place=place, progress=progress)
        else:
            assert isinstance(pairs, PairedRows)  # by order, as was required
            dealt_out = partial(deal_out_on, engine, pairs, threads=threads, progress=progress)
        return fit_stream(pairs, dealt_out, method, holdout, random_state, options, refuse_unrelated)


def evaluate_files(
    map_: Map,
    source: Source,
    target: Source,
    *,
    id_column: str | None = None,
    unmatched: Unmatched = "error",
    max_queries: int = 2000,
    max_rows: int = 10_000,
    random_state: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> evaluation.Evaluation:
    """Measure a map on the pairs of two sources of any size.

    The errors and the cosine are of all pairs. Where the rows are too many to be loaded, retrieval
    searches `max_rows` of the target rows, drawn at random, and `Evaluation.searched` says so: among fewer
    rows it is easier.

    Parameters
    ----------
    map_ : Map
    source, target, id_column, unmatched, threads, progress
        As in `fit_files`.
    max_queries : int
        The rows, drawn at random, that look for their own row.
    max_rows : int
        The rows, drawn at random, that are searched.
    random_state : int
        Draws both.

    Returns
    -------
    Evaluation

    Raises
    ------
    FileNotFoundError, ModuleNotFoundError, TypeError, ValueError
        As in `fit_files` and `latalign.evaluate`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import latalign
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "x.npy"), np.eye(4))
    ...     path = Path(folder, "x.npy")
    ...     latalign.evaluate_files(latalign.AffineMap.of(np.eye(4)), path, path).mapped.mse
    0.0
    """
    if max_rows < 2:
        raise ValueError(f"evaluate_files needs max_rows of at least 2; got {max_rows}")
    with limited(threads):
        pairs = _opened(source, target, id_column, unmatched, "evaluate", map_)
        if isinstance(pairs, tuple):
            X, Y = pairs
            return evaluation.evaluate(map_, X, Y, max_queries=max_queries, random_state=random_state)
        agreement, sample = measured(map_, pairs, max_rows, random_state, threads, progress)
        found = evaluation.evaluate(
            map_, sample.source, sample.target, max_queries=max_queries, random_state=random_state
        )
    return replace(
        found,
        rows=agreement["mapped"].count,
        searched=len(sample.numbers),
        mapped=agreement["mapped"].scores(found.mapped.retrieval),
        no_map=None if found.no_map is None else agreement["no map"].scores(found.no_map.retrieval),
    )


def compare_files(
    source: Source,
    target: Source,
    *,
    id_column: str | None = None,
    unmatched: Unmatched = "error",
    k: int = 10,
    n_folds: int = 5,
    n_permutations: int = 99,
    max_rows: int = 5000,
    random_state: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> comparison.Comparison:
    """Tell how alike the spaces of two sources of any size are.

    One pass sums the moments of the folds, which are drawn as in `fit_files`, and keeps the rows that
    likeness is measured on.

    Parameters
    ----------
    source, target, id_column, unmatched, threads, progress
        As in `fit_files`.
    k, n_folds, n_permutations, max_rows, random_state
        As in `latalign.compare`.

    Returns
    -------
    Comparison

    Raises
    ------
    FileNotFoundError, ModuleNotFoundError, TypeError, ValueError
        As in `fit_files` and `latalign.compare`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import latalign
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "x.npy")
    ...     np.save(path, np.random.default_rng(0).normal(size=(50, 4)))
    ...     round(latalign.compare_files(path, path).linear_cka.debiased, 6)
    1.0
    """
    with limited(threads):
        pairs = _opened(source, target, id_column, unmatched, "compare")
        if isinstance(pairs, tuple):
            X, Y = pairs
            return comparison.compare(
                X,
                Y,
                k=k,
                n_folds=n_folds,
                n_permutations=n_permutations,
                max_rows=max_rows,
                random_state=random_state,
            )
        comparison.check_compare(k, max_rows, n_permutations)
        require_folds(n_folds, "compare")
        deal = Deal(n_folds, kept=max(max_rows // n_folds, 1), seed=random_state, grams="both")
        dealt = deal_out(pairs, deal, threads=threads, progress=progress)
        kept = scored(dealt).pairs
        rng = as_generator(random_state, "compare_files")
        return comparison.comparison(filled(dealt.folds), kept, k=k, n_permutations=n_permutations, rng=rng)


def _opened(
    source: Source,
    target: Source,
    id_column: str | None,
    unmatched: Unmatched,
    caller: str,
    map_: Map | None = None,
) -> PairStream | tuple[Rows, Rows]:
    """Return the pairs to be streamed; both sides as arrays where they are small enough to be loaded."""
    sides = open_rows(source), open_rows(target)
    if map_ is not None:
        require_way(map_, *sides)
    if fits(*sides):
        return load_pairs(*sides, id_column, unmatched)
    return paired(*sides, id_column=id_column, unmatched=unmatched, caller=caller)
