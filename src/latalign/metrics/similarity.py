"""How alike two spaces are, by inner products: linear CKA, with and without its bias, and Procrustes.

References
----------
.. [1] S. Kornblith, M. Norouzi, H. Lee, G. Hinton, Similarity of neural network representations
   revisited, ICML 2019.
.. [2] A. H. Williams, E. Kunz, S. Kornblith, S. Linderman, Generalized shape metrics on neural
   representations, NeurIPS 2021.
.. [3] L. Song, A. Smola, A. Gretton, J. Bedo, K. Borgwardt, Feature selection via dependence maximization,
   Journal of Machine Learning Research 13 (2012) 1393-1434 (the unbiased estimator of HSIC, eq. 5).
.. [4] T. Nguyen, M. Raghu, S. Kornblith, Do wide and deep networks learn the same things? Uncovering how
   neural network representations vary with width and depth, ICLR 2021.
.. [5] A. Murphy, J. Zylberberg, A. Fyshe, Correcting biased centered kernel alignment measures in biological
   and artificial neural networks, ICLR 2024 workshop on representational alignment.
"""

from __future__ import annotations

import numpy as np

from latalign._linalg import svd
from latalign.moments import Moments


def linear_cka_score(moments: Moments) -> float:
    """Return the linear centred kernel alignment of two spaces, in [0, 1] (eq. 3 of [1]_).

    Invariant to rotation and one scale on either side. Biased upward where there are few rows for the
    dimensions.

    Parameters
    ----------
    moments : Moments
        With both Gram matrices.

    Returns
    -------
    float
        NaN if a side is constant.

    Raises
    ------
    ValueError
        If the moments lack a Gram matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import Moments, metrics
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(metrics.linear_cka_score(Moments.of(X, 2 * X[:, ::-1] + 1)), 6)
    1.0
    """
    sizes = float(np.linalg.norm(moments.xx) * np.linalg.norm(moments.yy))
    return float(np.linalg.norm(moments.xy) ** 2) / sizes if sizes > 0 else float("nan")


def procrustes_distance(moments: Moments) -> float:
    """Return the angular Procrustes distance of two centred spaces, in radians, from 0 to π/2 [2]_.

    arccos of the nuclear norm of the cross moments over the product of the sides' norms: zero where
    a rotation, one scale and a translation make the spaces the same.

    Parameters
    ----------
    moments : Moments
        No Gram matrix is read.

    Returns
    -------
    float
        NaN if a side is constant.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import Moments, metrics
    >>> X = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> round(metrics.procrustes_distance(Moments.of(X, X * [1.0, 0.0])), 6) == round(np.pi / 4, 6)
    True
    """
    sizes = float(np.sqrt(moments.xx_diagonal.sum()) * np.sqrt(moments.yy_diagonal.sum()))
    if sizes == 0:
        return float("nan")
    return float(np.arccos(min(svd(moments.xy)[1].sum() / sizes, 1.0)))
