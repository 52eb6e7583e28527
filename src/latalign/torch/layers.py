"""An affine map as a linear layer: of its own, or folded into the layer before or after it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from latalign.maps import AffineMap


def to_linear(
    map: AffineMap, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> nn.Linear:
    """Return the layer that computes the same as a map.

    Parameters
    ----------
    map : AffineMap
    dtype : torch.dtype, optional
        PyTorch's default dtype unless given.
    device : torch.device or str, optional
        PyTorch's default device unless given.

    Returns
    -------
    nn.Linear
        From dim_source to dim_target, with a bias. Both are computed in float64 and rounded once. One
        bias takes the place of two means: where the means of the codes are large beside their spread,
        a float32 layer is less exact than the map itself.

    Raises
    ------
    TypeError
        If it is not an AffineMap.
    ValueError
        If a value overflows the dtype.

    Examples
    --------
    >>> import torch
    >>> from latalign import AffineMap
    >>> from latalign.torch import to_linear
    >>> layer = to_linear(AffineMap.of([[0.0, 1.0], [-1.0, 0.0]], [5.0, 0.0]))
    >>> layer(torch.tensor([[1.0, 2.0]])).tolist()
    [[3.0, 1.0]]
    """
    require_affine(map, "to_linear")
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not dtype.is_floating_point:
        raise TypeError(f"to_linear needs a floating-point dtype; got {dtype}")
    # Made without memory first, so that no random numbers of the user's are spent on its weights.
    empty = nn.Linear(map.dim_source, map.dim_target, dtype=dtype, device="meta")
    layer = empty.to_empty(device=torch.get_default_device() if device is None else device)
    with torch.no_grad():
        for parameter, values in ((layer.weight, map.matrix.T), (layer.bias, map.offset)):
            parameter.copy_(torch.from_numpy(values.copy()).to(dtype))
            if not torch.isfinite(parameter).all():
                raise ValueError(f"to_linear: values of the map overflow {dtype}; take a wider dtype")
    return layer


def fold_into(map: AffineMap, linear: nn.Linear, *, side: Literal["input", "output"]) -> nn.Linear:
    """Return a layer that computes a map and a linear layer in one: the stitched network costs nothing more.

    Parameters
    ----------
    map : AffineMap
    linear : nn.Linear
        It stays as it is.
    side : {"input", "output"}
        Where the map stands. "input": before the layer, ``linear(map(x))``, so that a decoder's first
        layer reads the source's codes. "output": after it, ``map(linear(x))``, so that an encoder's
        last layer gives the target's codes.

    Returns
    -------
    nn.Linear
        A new layer in the dtype and on the device of `linear`, always with a bias, that trains if
        `linear` does. The products are taken in float64 and rounded once.

    Raises
    ------
    TypeError
        If the map is not affine or the layer not an nn.Linear.
    ValueError
        If the widths do not fit, `side` is unknown, or a value overflows the dtype.

    Examples
    --------
    >>> import torch
    >>> from latalign import AffineMap
    >>> from latalign.torch import fold_into
    >>> decoder = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 5))
    >>> map = AffineMap.of([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> decoder[0] = fold_into(map, decoder[0], side="input")
    >>> decoder(torch.ones(4, 3)).shape
    torch.Size([4, 5])
    """
    require_affine(map, "fold_into")
    if not isinstance(linear, nn.Linear):
        raise TypeError(
            f"fold_into needs an nn.Linear to fold the map into; got {type(linear).__name__}. "
            "Put the map beside another layer as one of its own: to_linear(map)."
        )
    if side not in ("input", "output"):
        raise ValueError(f'fold_into: side is "input" or "output"; got {side!r}')
    before = side == "input"
    given, needed = (map.dim_target, linear.in_features) if before else (linear.out_features, map.dim_source)
    if given != needed:
        first, second = ("the map", "the layer") if before else ("the layer", "the map")
        raise ValueError(
            f'fold_into(side="{side}") needs {second} to take what {first} returns; {first} returns {given} '
            f"dimensions, {second} takes {needed}"
        )
    affine = _affine(linear)
    both = map >> affine if before else affine >> map
    assert isinstance(both, AffineMap)
    folded = to_linear(both, dtype=linear.weight.dtype, device=linear.weight.device)
    return folded.requires_grad_(linear.weight.requires_grad).train(linear.training)


def _affine(linear: nn.Linear) -> AffineMap:
    """Return a layer as a map, in float64."""
    weight, bias = (
        None if values is None else values.detach().to("cpu", torch.float64).numpy()
        for values in (linear.weight, linear.bias)
    )
    assert weight is not None
    return AffineMap.of(weight.T, bias)


def require_affine(map: object, caller: str) -> None:
    """Raise a TypeError for what is no AffineMap."""
    if not isinstance(map, AffineMap):
        raise TypeError(
            f"{caller} needs an AffineMap (what latalign.fit returns); got {type(map).__name__}, "
            "which is no linear layer"
        )
