"""The same fit and the same files by many processes or machines, where an existing engine does the work.

All that an engine is asked for is to call a function for many items (`latalign.engine.Engine`): so that every
`concurrent.futures.Executor` is one, and `dask` and `ray` here start or find those two. What is read is cut
into parts of a fixed size whose sums are added in the order of the rows, so that the bits of the result do not
depend on who did what and when.

>>> from concurrent.futures import ThreadPoolExecutor
>>> import tempfile
>>> from pathlib import Path
>>> import numpy as np
>>> from latalign import AffineMap, apply_folder
>>> with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as engine:
...     np.save(Path(folder, "old.npy"), np.ones((3, 2), np.float32))
...     done = apply_folder(AffineMap.of(np.eye(2)), Path(folder, "old.npy"), Path(folder, "new"), engine=engine)
>>> done.rows
3
"""

from latalign.distributed._dask import dask
from latalign.distributed._ray import ray

__all__ = ["dask", "ray"]
