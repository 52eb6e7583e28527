"""The codes of a network: what a named submodule returns, for every item of a loader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_SHOWN_NAMES = 10

Codes = NDArray[Any]


def capture(
    model: nn.Module,
    loader: Iterable[Any],
    layer: str,
    *,
    device: torch.device | str | None = None,
    limit: int | None = None,
) -> Codes:
    """Return what a submodule of a network returns for every item of a loader, one row an item.

    The network runs in evaluation mode and without gradients; afterwards every module is in the mode
    it was in, and nothing is left hooked, whatever happens.

    Parameters
    ----------
    model : nn.Module
    loader : iterable of batches
        A ``torch.utils.data.DataLoader``, say. A batch is a tensor (batch, …), or a tuple or list whose
        first entry is one; that is what the model is called with.
    layer : str
        The name of the submodule, as ``model.named_modules()`` has it: "encoder", "blocks.3.mlp".
        "" is the model itself.
    device : torch.device or str, optional
        Where batches are moved to; where the model's parameters are unless given.
    limit : int, optional
        Stop after so many rows.

    Returns
    -------
    array of shape (rows, dim)
        In the dtype of the layer, bfloat16 widened to float32. An output (batch, …) is flattened to (batch, dim).

    Raises
    ------
    TypeError
        If the model is no nn.Module, a batch is not as described, or the output is not a tensor.
    ValueError
        If there is no such submodule, it is not called once a batch, it does not return one entry an
        item, items differ in width, there are no rows, or `limit` is below 1.

    Examples
    --------
    >>> import torch
    >>> from latalign.torch import capture
    >>> data = torch.utils.data.TensorDataset(torch.randn(100, 8), torch.arange(100))
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 3), torch.nn.ReLU(), torch.nn.Linear(3, 8))
    >>> capture(model, torch.utils.data.DataLoader(data, batch_size=32), "0").shape
    (100, 3)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"capture needs an nn.Module; got {type(model).__name__}")
    if limit is not None and limit < 1:
        raise ValueError(f"capture needs a limit of 1 row or more; got {limit}")
    module = _submodule(model, layer)
    name = repr(layer) if layer else "the model itself"
    device = _device_of(model) if device is None else device
    blocks: list[Codes] = []
    rows = 0
    with _evaluating(model), _outputs_of(module, name) as outputs:
        for batch in loader:
            item = _input(batch)
            model(item.to(device))
            block = _block(outputs, len(item), name)
            if blocks and block.shape[1] != blocks[0].shape[1]:
                raise ValueError(
                    f"capture needs items of one width; layer {name} returned {blocks[0].shape[1]} values an "
                    f"item and then {block.shape[1]}. Pad or crop the inputs to one size."
                )
            blocks.append(block if limit is None else block[: limit - rows])
            rows += len(blocks[-1])
            if rows == limit:
                break
    if not rows:
        raise ValueError("capture needs at least one item; the loader gave none")
    return np.concatenate(blocks)


def _submodule(model: nn.Module, layer: str) -> nn.Module:
    modules = dict(model.named_modules())
    if layer in modules:
        return modules[layer]
    names = [name for name in modules if name]
    near = get_close_matches(layer, names, n=_SHOWN_NAMES, cutoff=0.5)
    shown = near or names[:_SHOWN_NAMES]
    known = f"{'near it: ' if near else 'there are: '}{', '.join(shown)}" if shown else "it has none"
    more = "" if near or len(names) <= len(shown) else f" and {len(names) - len(shown)} more"
    raise ValueError(
        f'capture: {type(model).__name__} has no submodule {layer!r}; {known}{more}. "" is the model itself.'
    )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Switch a network to evaluation without gradients, and each of its modules back to what it was."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _outputs_of(module: nn.Module, name: str) -> Iterator[list[Tensor]]:
    """Collect what a module returns, for as long as the block runs."""
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise TypeError(
                f"capture needs a layer that returns a tensor; {name} returned {type(output).__name__}. "
                "Name a submodule of it, or wrap it in a module that picks one tensor."
            )
        if outputs:
            raise ValueError(
                f"capture needs a layer that is called once a batch; {name} was called again. "
                "Name the module around it, whose output is the one you mean."
            )
        # Copied at once: the next layer may work in place on what this one returned.
        wide = torch.float32 if output.dtype == torch.bfloat16 else output.dtype  # NumPy has no bfloat16
        outputs.append(output.detach().to("cpu", wide, copy=True))

    handle = module.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()


def _block(outputs: list[Tensor], items: int, name: str) -> Codes:
    """Take what was collected in one batch as rows."""
    if not outputs:
        raise ValueError(
            f"capture: layer {name} was never called while the model ran. Name one that its forward uses."
        )
    output = outputs.pop()
    if output.ndim == 0 or len(output) != items:
        raise ValueError(
            f"capture needs one entry of the output an item; for a batch of {items}, layer {name} returned "
            f"the shape {tuple(output.shape)}. The first axis must be the batch."
        )
    return (output.flatten(1) if output.ndim > 1 else output[:, None]).numpy()


def _input(batch: Any) -> Tensor:
    first = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not isinstance(first, Tensor) or first.ndim == 0:
        raise TypeError(
            "capture needs batches that are a tensor (batch, …), or a tuple or list whose first entry is one; "
            f"got {type(batch).__name__}"
            + (f" with {type(first).__name__} first" if first is not batch else "")
            + ". Give a loader whose batches are (input, …)."
        )
    return first


def _device_of(model: nn.Module) -> torch.device:
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
