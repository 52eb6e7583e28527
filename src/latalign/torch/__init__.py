"""Maps inside PyTorch networks: as a layer, folded into a neighbour, between two networks; and their codes.

Needs the extra: ``pip install 'latalign[torch]'``.
"""

from __future__ import annotations

try:
    import torch.nn  # noqa: F401 - the package alone may be an empty folder of that name
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "latalign.torch needs PyTorch, which is not installed: pip install 'latalign[torch]'",
        name=error.name,
    ) from error

from latalign.stitching import StitchingMap
from latalign.torch.applying import apply
from latalign.torch.capture import capture
from latalign.torch.layers import fold_into, to_linear
from latalign.torch.place import Place
from latalign.torch.relative import Relative, RelativeEncoder
from latalign.torch.stitched import Stitched
from latalign.torch.stitching import fit_stitching, to_sequential
from latalign.torch.summing import accumulate, moments

__all__ = [
    "Place",
    "Relative",
    "RelativeEncoder",
    "Stitched",
    "StitchingMap",
    "accumulate",
    "apply",
    "capture",
    "fit_stitching",
    "fold_into",
    "moments",
    "to_linear",
    "to_sequential",
]
