"""One network's encoder and another's decoder, with a map between them."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from latalign.maps import AffineMap
from latalign.stitching import StitchingMap
from latalign.torch.layers import to_linear
from latalign.torch.stitching import to_sequential


@final
class Stitched(nn.Module):
    """The network ``decoder(map(encoder(x)))``: the decoder of one model reads the codes of another.

    Parameters
    ----------
    encoder : nn.Module
        Returns codes of shape (batch, dim_source).
    map : AffineMap, StitchingMap or nn.Module
        A map becomes a layer or three that do not train, in the dtype and on the device of the
        decoder's parameters; a module is taken as it is.
    decoder : nn.Module
        Takes codes of shape (batch, dim_target).

    Raises
    ------
    TypeError
        If a part is none of these, or the encoder returns something else than a tensor.
    ValueError
        If the encoder's codes are not 2-D, or not as wide as the map takes them.

    References
    ----------
    Z. Lähner, M. Moeller, On the Direct Alignment of Latent Spaces, UniReps 2023.

    Examples
    --------
    >>> import torch
    >>> from latalign import AffineMap
    >>> from latalign.torch import Stitched
    >>> encoder, decoder = torch.nn.Linear(10, 3), torch.nn.Linear(2, 10)
    >>> network = Stitched(encoder, AffineMap.of([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), decoder)
    >>> network(torch.ones(4, 10)).shape
    torch.Size([4, 10])
    """

    def __init__(
        self, encoder: nn.Module, map: AffineMap | StitchingMap | nn.Module, decoder: nn.Module
    ) -> None:
        super().__init__()
        for name, part in (("encoder", encoder), ("decoder", decoder)):
            if not isinstance(part, nn.Module):
                raise TypeError(f"Stitched needs an nn.Module as its {name}; got {type(part).__name__}")
        if not isinstance(map, (AffineMap, StitchingMap, nn.Module)):
            raise TypeError(
                "Stitched needs an AffineMap, a StitchingMap or an nn.Module as map; "
                f"got {type(map).__name__}"
            )
        self.encoder = encoder
        self.map = map if isinstance(map, nn.Module) else _frozen(map, decoder)
        self.decoder = decoder

    def forward(self, x: Tensor) -> Tensor:
        """Return what the decoder makes of the mapped codes of `x`."""
        codes = self.encoder(x)
        if not isinstance(codes, Tensor):
            raise TypeError(
                f"Stitched needs an encoder that returns a tensor of codes; it returned {type(codes).__name__}. "
                "Wrap it in a module that picks the codes."
            )
        if codes.ndim != 2:
            raise ValueError(
                f"Stitched needs codes of shape (batch, dim); the encoder returned {tuple(codes.shape)}. "
                "End the encoder with nn.Flatten()."
            )
        first = self.map[0] if isinstance(self.map, nn.Sequential) and len(self.map) else self.map
        if isinstance(first, nn.Linear) and codes.shape[1] != first.in_features:
            raise ValueError(
                f"Stitched: the map takes codes of {first.in_features} dimensions; the encoder returned "
                f"{codes.shape[1]}. Fit the map on the codes of this encoder."
            )
        return self.decoder(self.map(codes))


def _frozen(map: AffineMap | StitchingMap, decoder: nn.Module) -> nn.Module:
    reads = next((p for p in decoder.parameters() if p.is_floating_point()), None)
    where = {} if reads is None else {"dtype": reads.dtype, "device": reads.device}
    layers = to_linear(map, **where) if isinstance(map, AffineMap) else to_sequential(map, **where)
    return layers.requires_grad_(False)
