"""Relative representations inside a network: gradients flow through the codes, and through the anchors."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from latalign.relative import Similarity, check_similarity


@final
class Relative(nn.Module):
    """The layer from codes to their similarities to anchors that stay as they are.

    For a new decoder behind an encoder that is kept (*decoder-only* in the paper [1]_): the decoder is
    trained on the relative codes of its own model, and then reads those of another, whose layer holds
    the same anchors as that model encodes them.

    Parameters
    ----------
    anchors : Tensor or array-like of shape (k, dim)
        The anchors' own codes. A tensor keeps its dtype and device; anything else becomes a tensor of
        PyTorch's default dtype.
    similarity : {"euclidean", "cosine"}
        As in `latalign.RelativeMap`, whose layer ``Relative(map.anchors, map.similarity)`` is.

    Attributes
    ----------
    anchors : Tensor of shape (k, dim)
        A buffer: it goes where the module goes and is saved with it, and does not train.

    Raises
    ------
    ValueError
        If the anchors are not 2-D or not finite, `similarity` is unknown, or the codes are not of
        shape (batch, dim).

    References
    ----------
    .. [1] Z. Lähner, M. Moeller, On the Direct Alignment of Latent Spaces, UniReps 2023.
    .. [2] L. Moschella et al., Relative representations enable zero-shot latent space communication,
       ICLR 2023.

    Examples
    --------
    >>> import torch
    >>> from latalign.torch import Relative
    >>> codes = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    >>> Relative(codes)(codes).tolist()
    [[0.0, 5.0], [5.0, 0.0]]
    """

    anchors: Tensor

    def __init__(self, anchors: Tensor | ArrayLike, similarity: Similarity = "euclidean") -> None:
        super().__init__()
        check_similarity(similarity, "Relative")
        self.similarity: Similarity = similarity
        if not isinstance(anchors, Tensor):
            # A copy: NumPy's array may be one that must not be written to.
            anchors = torch.tensor(np.asarray(anchors), dtype=torch.get_default_dtype())
        if anchors.ndim != 2 or 0 in anchors.shape:
            raise ValueError(f"Relative needs anchors of shape (anchors, dim); got {tuple(anchors.shape)}")
        if not torch.isfinite(anchors).all():
            raise ValueError("Relative needs finite anchors; some have NaN or infinity")
        if similarity == "cosine" and not anchors.any(dim=1).all():
            raise ValueError(
                'Relative(similarity="cosine") needs anchors with a direction; '
                f"{int((~anchors.any(dim=1)).sum())} of {len(anchors)} are zero. Leave them out, or take the distance."
            )
        self.register_buffer("anchors", anchors.detach().clone())

    def forward(self, codes: Tensor) -> Tensor:
        """Return the similarities of codes (batch, dim) to the anchors, (batch, k), in the codes' dtype."""
        _require_codes(codes, "Relative")
        return similarities(codes, self.anchors, self.similarity)

    def extra_repr(self) -> str:
        """Return what ``print`` shows of the layer."""
        count, dim = self.anchors.shape
        return f"anchors={count}, dim={dim}, similarity={self.similarity!r}"


@final
class RelativeEncoder(nn.Module):
    """An encoder whose codes are relative to anchors that it encodes itself, every time.

    For training a network with relative codes inside (*end2end* in the paper [1]_). The anchors' codes
    are those of the encoder as it is at this step, and gradients flow through them. Batch and anchors go
    through the encoder in one call, so that a layer which looks at the whole batch treats both alike.

    Once trained, ``nn.Sequential(network.encoder, Relative(network.anchor_codes(), network.similarity))``
    computes the same without encoding the anchors again.

    Parameters
    ----------
    encoder : nn.Module
        Returns codes of shape (batch, dim).
    anchor_inputs : Tensor of shape (k, …)
        What the encoder makes the anchors' codes of; each entry as an entry of a batch is.
    similarity : {"euclidean", "cosine"}
        As in `latalign.RelativeMap`.

    Attributes
    ----------
    encoder : nn.Module
    anchor_inputs : Tensor
        A buffer: it goes where the module goes and is saved with it.

    Raises
    ------
    TypeError
        If the encoder is no module, the inputs are no tensor, or the encoder returns something else
        than a tensor.
    ValueError
        If there is no anchor, `similarity` is unknown, a batch does not fit the anchors, or the
        encoder's codes are not 2-D.

    References
    ----------
    .. [1] Z. Lähner, M. Moeller, On the Direct Alignment of Latent Spaces, UniReps 2023.
    .. [2] L. Moschella et al., Relative representations enable zero-shot latent space communication,
       ICLR 2023.

    Examples
    --------
    >>> import torch
    >>> from latalign.torch import RelativeEncoder
    >>> images = torch.rand(100, 1, 4, 4)
    >>> encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    >>> network = torch.nn.Sequential(RelativeEncoder(encoder, images[:20]), torch.nn.Linear(20, 16))
    >>> network(images).shape
    torch.Size([100, 16])
    """

    anchor_inputs: Tensor

    def __init__(
        self, encoder: nn.Module, anchor_inputs: Tensor, similarity: Similarity = "euclidean"
    ) -> None:
        super().__init__()
        check_similarity(similarity, "RelativeEncoder")
        if not isinstance(encoder, nn.Module):
            raise TypeError(f"RelativeEncoder needs an nn.Module as encoder; got {type(encoder).__name__}")
        if not isinstance(anchor_inputs, Tensor):
            raise TypeError(
                f"RelativeEncoder needs its anchor inputs as a tensor; got {type(anchor_inputs).__name__}"
            )
        if anchor_inputs.ndim < 2 or not len(anchor_inputs):
            raise ValueError(
                "RelativeEncoder needs anchor inputs of shape (anchors, …), one at least; "
                f"got {tuple(anchor_inputs.shape)}"
            )
        self.encoder = encoder
        self.similarity: Similarity = similarity
        self.register_buffer("anchor_inputs", anchor_inputs.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return the relative codes of a batch, (batch, k)."""
        anchors = self.anchor_inputs
        if x.shape[1:] != anchors.shape[1:]:
            raise ValueError(
                f"RelativeEncoder needs a batch of entries like the anchors', {tuple(anchors.shape[1:])}; "
                f"got a batch of shape {tuple(x.shape)}"
            )
        codes = self._codes(torch.cat((x, anchors.to(x.dtype))))
        return similarities(codes[: len(x)], codes[len(x) :], self.similarity)

    def anchor_codes(self) -> Tensor:
        """Return the anchors' codes by the encoder as it is now, (k, dim), detached.

        The encoder runs in the mode that it is in: call ``eval()`` first where it has layers that care.
        """
        with torch.no_grad():
            return self._codes(self.anchor_inputs)

    def extra_repr(self) -> str:
        """Return what ``print`` shows of the module."""
        return f"anchors={len(self.anchor_inputs)}, similarity={self.similarity!r}"

    def _codes(self, inputs: Tensor) -> Tensor:
        codes = self.encoder(inputs)
        if not isinstance(codes, Tensor):
            raise TypeError(
                "RelativeEncoder needs an encoder that returns a tensor of codes; it returned "
                f"{type(codes).__name__}. Wrap it in a module that picks the codes."
            )
        _require_codes(codes, "RelativeEncoder")
        return codes


def similarities(codes: Tensor, anchors: Tensor, similarity: Similarity) -> Tensor:
    """Return the similarities of codes (n, dim) to anchors (k, dim), (n, k), with gradients.

    In the codes' dtype; half precision is computed in float32. Gradients are finite everywhere: where a
    row is an anchor the distance has none, and 0 is given.
    """
    if codes.shape[1] != anchors.shape[1]:
        raise ValueError(
            f"the anchors have {anchors.shape[1]} dimensions, the codes {codes.shape[1]}. "
            "Take the anchors' codes by the same encoder."
        )
    work = torch.float32 if codes.dtype in (torch.float16, torch.bfloat16) else codes.dtype
    x, a = codes.to(work), anchors.to(work)
    if similarity == "cosine":
        return (_unit(x) @ _unit(a).T).to(codes.dtype)
    # The faster mode, by a matrix product, has lost half the digits where a row is close to an anchor.
    return torch.cdist(x, a, compute_mode="donot_use_mm_for_euclid_dist").to(codes.dtype)


def _unit(rows: Tensor) -> Tensor:
    # Divided by the largest value first, so that no square overflows or vanishes. A direction does not
    # depend on that scale, so no gradient need flow through it.
    scale = rows.detach().abs().amax(dim=1, keepdim=True)
    rows = rows / torch.where(scale > 0, scale, 1)
    # A zero row stays zero; its length is not divided by.
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / torch.where(length > 0, length, 1)


def _require_codes(codes: Tensor, name: str) -> None:
    if codes.ndim != 2:
        raise ValueError(
            f"{name} needs codes of shape (batch, dim); got {tuple(codes.shape)}. "
            "End the encoder with nn.Flatten()."
        )
