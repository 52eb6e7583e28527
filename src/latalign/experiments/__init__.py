"""Real images, small autoencoders, the demo, and the experiments of the paper.

Needs the extra: ``pip install 'latalign[experiments]'``.
"""

from __future__ import annotations

from importlib import import_module

for _name, _project in (("torch.nn", "PyTorch"), ("matplotlib", "matplotlib"), ("pooch", "pooch")):
    try:
        import_module(_name)
    except ModuleNotFoundError as _error:
        raise ModuleNotFoundError(
            f"latalign.experiments needs {_project}, which is not installed: "
            "pip install 'latalign[experiments]'",
            name=_error.name,
        ) from _error
