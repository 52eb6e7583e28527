"""A space that many spaces are mapped into and out of; immutable, and a new space joins without the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from latalign._linalg import EPS, eigh
from latalign._validation import as_generator, checked_alpha, checked_power, require_folds
from latalign.evidence import Evidence
from latalign.many.evidence import SharedEvidence
from latalign.many.joining import bare_pairs, folds_of_given, folds_of_new, joined
from latalign.many.pairwise import Pairwise
from latalign.many.relating import look_at_relation
from latalign.many.saving import Parts, read_parts, write_parts
from latalign.maps import AffineMap
from latalign.moments import Moments


@final
@dataclass(frozen=True, slots=True, eq=False)
class SharedSpace:
    """One space that many spaces are mapped into and out of: any to any by composition.

    Attributes
    ----------
    names : tuple of str
        Of the spaces, in order.
    method : {"rigid", "ridge"}
    encoders : tuple of AffineMap
        From every space into the shared one, in the order of the names: see `into`.
    decoders : tuple of AffineMap
        From the shared space to every other: see `back`.
    agreement : Moments
        Of rows in the shared space, as one space and as another sees them: those of all ordered pairs of spaces
        together. What `correction` is made of.
    evidence : SharedEvidence
        Errors of every pair, beside those of direct maps, and how far the ways between the spaces are apart.

    Examples
    --------
    >>> import numpy as np
    >>> import latalign
    >>> rng = np.random.default_rng(0)
    >>> things = rng.normal(size=(200, 6))
    >>> models = {name: things @ np.linalg.qr(rng.normal(size=(6, 6)))[0] + 1 for name in ("old", "new", "other")}
    >>> shared = latalign.fit_many(models, "rigid")
    >>> np.allclose(shared.map("old", "other")(models["old"]), models["other"])
    True
    """

    names: tuple[str, ...]
    method: str
    encoders: tuple[AffineMap, ...]
    decoders: tuple[AffineMap, ...]
    agreement: Moments
    evidence: SharedEvidence

    @property
    def dim(self) -> int:
        """The width of the shared space."""
        return self.agreement.dim_source

    def into(self, name: str) -> AffineMap:
        """Return the map from a space into the shared one.

        Raises
        ------
        KeyError
            If there is no space of that name.
        """
        return self.encoders[self._number(name)]

    def back(self, name: str) -> AffineMap:
        """Return the map from the shared space to one of the others.

        Raises
        ------
        KeyError
            If there is no space of that name.
        """
        return self.decoders[self._number(name)]

    def map(self, source: str, target: str) -> AffineMap:
        """Return the map from one space to another, ``into(source) >> back(target)``.

        It is an `AffineMap` as any: it can be applied, saved and folded. Its ``evidence.heldout`` has the held-out
        error of the pair, where there is one.

        Raises
        ------
        KeyError
            If there is no space of that name.
        """
        into, back = self.into(source), self.back(target)
        first, last = into.evidence, back.evidence
        assert first is not None  # solved from moments, both
        assert last is not None
        pair = None if source == target else self.evidence.pair(source, target)
        evidence = Evidence(
            anchors=first.anchors if pair is None else pair.anchors,
            rank=min(first.rank, last.rank),
            condition=max(first.condition, last.condition),
            error_bound=max(first.error_bound, last.error_bound),
            alpha=first.alpha,
        )
        if pair is not None and pair.error is not None and pair.baseline:
            figures = {"rows": float(pair.anchors), "mse": pair.error, "r2": 1 - pair.error / pair.baseline}
            evidence = replace(evidence, heldout=figures)
        return replace(into >> back, method=self.method, evidence=evidence)

    def correction(self, *, alpha: float = 1.0, power: float = 0.5) -> AffineMap:
        """Return a map of the shared space that makes rows of different models alike: for search by cosine.

        ``shared.into(name) >> shared.correction()`` takes rows of any space to where the same thing has nearly the
        same direction, whichever model saw it. Rotations keep all that a model says of a thing; for search only
        what the models agree on should count, as the authors of geometry-corrected Procrustes alignment find
        [1]_, who train a small network for it. This is in closed form, one linear map for all spaces, the ones that
        join later among them: with A = xx + alpha·mean(diag xx)·I and the symmetric part B of xy of the
        `agreement`, and A^(−½) B A^(−½) = V diag(r) Vᵀ, the matrix A^(−½) V max(r, 0)^power: directions weighted
        by how well the models agree, r from 0 to 1.

        Parameters
        ----------
        alpha : float
            The penalty, relative to the mean sum of squares of a column: the larger, the less directions of little
            variance are raised.
        power : float
            What the agreement is raised to.

        Returns
        -------
        AffineMap
            From the shared space; its target has mean zero, and as many dimensions as the models agree on.

        Raises
        ------
        ValueError
            If `alpha` or `power` is not a finite number of zero or more, or the models agree on nothing.

        References
        ----------
        .. [1] A. Achara et al., Multi-way representation alignment, arXiv:2602.06205 (2026).

        Examples
        --------
        >>> import numpy as np
        >>> import latalign
        >>> rng = np.random.default_rng(0)
        >>> things = rng.normal(size=(400, 8))
        >>> X, Y, Z = (things @ rng.normal(size=(8, 32)) + rng.normal(size=(400, 32)) for _ in range(3))
        >>> shared = latalign.fit_many({"X": X[:300], "Y": Y[:300], "Z": Z[:300]}, "rigid")
        >>> def found(*after):
        ...     rows = [f(x[300:]) for f, x in ((shared.into("X"), X), (shared.into("Z"), Z))]
        ...     for f in after:
        ...         rows = [f(x) for x in rows]
        ...     return latalign.metrics.recall_score(*rows, k=1)
        >>> found(shared.correction()) > found()
        True
        """
        penalty, exponent = checked_alpha(alpha), checked_power(power)
        moments = self.agreement
        values, vectors = eigh(moments.xx)
        rank = int(np.count_nonzero(values > len(values) * max(EPS, moments.rounding) * values[0]))
        values = values[:rank] + penalty * moments.xx_diagonal.mean()
        root = vectors[:, :rank] / np.sqrt(values)
        agreed, directions = eigh(root.T @ ((moments.xy + moments.xy.T) / 2) @ root)
        kept = agreed > 0
        if not kept.any():
            raise ValueError("correction: the spaces agree on no direction of the shared space")
        matrix = root @ (directions[:, kept] * np.minimum(agreed[kept], 1.0) ** exponent)
        condition = float(values[0] / values[-1])
        evidence = Evidence(
            anchors=moments.count,
            rank=int(kept.sum()),
            condition=float(np.sqrt(condition)),
            error_bound=moments.rounding * condition,
            alpha=penalty,
            power=exponent,
        )
        return AffineMap(moments.source_mean, matrix, np.zeros(evidence.rank), "agreement", evidence)

    def join(
        self,
        name: str,
        X: ArrayLike,
        known: Mapping[str, ArrayLike],
        *,
        sample_weight: ArrayLike | None = None,
        n_folds: int = 5,
        random_state: int | np.random.Generator | None = 0,
        refuse_unrelated: bool = False,
    ) -> SharedSpace:
        """Return the shared space with one more space in it; all that is there stays as it is, bit by bit.

        Parameters
        ----------
        name : str
            Of the new space.
        X : array-like of shape (n, dim)
            Rows of the new space.
        known : mapping of str to array-like of shape (n, dim)
            The same rows in one or more of the spaces that are there.
        sample_weight : array-like of shape (n,), optional
        n_folds : int
            Folds of the held-out errors; the maps of the known spaces are not fitted anew for them.
        random_state : int, Generator or None
            Draws the folds.
        refuse_unrelated : bool
            Whether rows that cannot be told from shuffled ones are an error instead of a warning.

        Returns
        -------
        SharedSpace

        Raises
        ------
        TypeError
            If the arrays do not hold real numbers.
        ValueError
            If the name is taken, no known space is given or one is unknown, or the rows do not fit.

        Warns
        -----
        UnrelatedPairsWarning
            If the new rows and those of a known space cannot be told from shuffled ones.

        Examples
        --------
        >>> import numpy as np
        >>> import latalign
        >>> rng = np.random.default_rng(0)
        >>> things = rng.normal(size=(200, 6))
        >>> a, b, c = (things @ np.linalg.qr(rng.normal(size=(6, 6)))[0] for _ in range(3))
        >>> shared = latalign.fit_many({"a": a, "b": b}, "rigid")
        >>> more = shared.join("c", c, {"a": a})
        >>> np.allclose(more.map("c", "b")(c), b)
        True
        """
        require_folds(n_folds, "join")
        rng = as_generator(random_state, "join")
        folds = folds_of_new(name, X, known, self._maps(), sample_weight, n_folds, rng)
        look_at_relation({name: X, **known}, ((name, other) for other in known), "join", refuse_unrelated)
        return self._with(name, folds)

    def join_moments(self, name: str, known: Mapping[str, Moments | Sequence[Moments]]) -> SharedSpace:
        """Return the shared space with one more space in it, from moments alone.

        Parameters
        ----------
        name : str
            Of the new space.
        known : mapping of str to Moments, or a sequence of them
            For spaces that are there, the moments of the new space (source) and that one (target), with both Gram
            matrices: those of all rows, or of as many folds for each. Their rows need not be the same.

        Returns
        -------
        SharedSpace

        Raises
        ------
        TypeError, ValueError
            As in `join`.
        """
        return self._with(name, folds_of_given(name, known, self._maps()))

    def save(self, path: str | PathLike[str], *, dataset: str | None = None) -> None:
        """Write the shared space, all its maps and its evidence to one safetensors file, as map files are written.

        Parameters
        ----------
        path : path
        dataset : str, optional
            The name of the data whose rows it was fitted on.

        Raises
        ------
        TypeError
            If a name, one of the spaces' included, is no text.
        OSError
            If the file cannot be written; nothing is left behind.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> import latalign
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(50, 4))
        >>> shared = latalign.fit_many({"X": X, "Y": X @ rng.normal(size=(4, 2)), "Z": 2 * X})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     shared.save(Path(folder, "spaces.safetensors"))
        ...     again = latalign.SharedSpace.load(Path(folder, "spaces.safetensors"))
        >>> again.names
        ('X', 'Y', 'Z')
        >>> bool((again.map("X", "Y")(X) == shared.map("X", "Y")(X)).all())
        True
        """
        parts = Parts(self.names, self.method, self.encoders, self.decoders, self.agreement, self.evidence)
        write_parts(path, parts, dataset)

    @staticmethod
    def load(path: str | PathLike[str]) -> SharedSpace:
        """Read a shared space that `save` wrote, and check everything in it. Nothing is ever unpickled.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not the file of a shared space, of an unknown version, truncated, or inconsistent.
        """
        parts = read_parts(path)
        return SharedSpace(*(getattr(parts, field.name) for field in fields(parts)))

    def _with(self, name: str, folds: Sequence[Pairwise]) -> SharedSpace:
        new = joined(folds, self.method, self._maps(), self.agreement)
        apart = bare_pairs(name, [other for other in self.names if other not in folds[0].names])
        return replace(
            self,
            names=(*self.names, name),
            encoders=(*self.encoders, new.into),
            decoders=(*self.decoders, new.back),
            evidence=replace(self.evidence, pairs=(*self.evidence.pairs, *new.pairs, *apart)),
        )

    def _maps(self) -> dict[str, tuple[AffineMap, AffineMap]]:
        both = zip(self.encoders, self.decoders, strict=True)
        return dict(zip(self.names, both, strict=True))

    def _number(self, name: str) -> int:
        if name not in self.names:
            raise KeyError(f"there is no space {name!r}; there are: {', '.join(map(repr, self.names))}")
        return self.names.index(name)
