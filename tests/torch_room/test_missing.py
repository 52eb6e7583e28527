"""What a missing PyTorch says."""

import importlib
import sys

import pytest


def test_the_message_says_what_to_type(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("latalign.torch")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch.nn", None)
    with pytest.raises(ImportError, match=r"pip install 'latalign\[torch\]'"):
        importlib.import_module("latalign.torch")
