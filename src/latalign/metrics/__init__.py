"""How good a map is and how alike two spaces are: of moments where those suffice, else of rows.

What ends in ``_score`` is better higher; ``_error`` and ``_distance`` are better lower.
"""

from latalign.metrics.chance import Likeness, likeness
from latalign.metrics.csls import crowding, csls_ranks
from latalign.metrics.errors import mean_squared_error, r2_score, squared_error
from latalign.metrics.neighbors import hubness, k_occurrence, mutual_knn_score
from latalign.metrics.retrieval import mean_cosine_score, mrr_score, ranks, recall_score
from latalign.metrics.similarity import debiased_cka_score, linear_cka_score, procrustes_distance

__all__ = [
    "Likeness",
    "crowding",
    "csls_ranks",
    "debiased_cka_score",
    "hubness",
    "k_occurrence",
    "likeness",
    "linear_cka_score",
    "mean_cosine_score",
    "mean_squared_error",
    "mrr_score",
    "mutual_knn_score",
    "procrustes_distance",
    "r2_score",
    "ranks",
    "recall_score",
    "squared_error",
]
