"""Rows in files as the formats' own libraries write them, with ids and other columns beside."""

import numpy as np
import pytest

from latalign import AffineMap

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = np.random.default_rng(0).normal(size=(90, 3)).astype(np.float32)
IDS = [f"t{k}" for k in range(90)]
TABLES = [".parquet", ".arrow", ".lance"]
GRIDS = [".h5", ".zarr"]


def table(rows=ROWS, ids=IDS):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    return pa.table({"id": ids, "v": lists, "year": range(len(rows))})


def in_table(path, found):
    """Write a table as the format's own library does."""
    if path.suffix == ".parquet":
        pq.write_table(found, path, row_group_size=40)
    elif path.suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, found.schema) as into:
            into.write_table(found, 40)
    else:
        pytest.importorskip("lance").write_dataset(found, str(path), max_rows_per_group=40)
    return path


def of_table(path):
    if path.suffix == ".parquet":
        return pq.read_table(path)
    if path.suffix == ".arrow":
        return pa.ipc.open_file(path).read_all()
    return pytest.importorskip("lance").dataset(str(path)).to_table()


def in_grid(path, rows=ROWS, ids=IDS):
    if path.suffix == ".h5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["group/v"] = rows
            file["id"] = ids
            file["year"] = np.arange(len(rows))
            file["bias"] = np.ones(3)
    else:
        group = pytest.importorskip("zarr").open_group(str(path), mode="w")
        group.create_array("group/v", data=rows, chunks=(25, 2))
        group.create_array("id", data=np.arange(len(rows)))
        group.create_array("year", data=np.arange(len(rows)))
        group.create_array("bias", data=np.ones(3))
    return path


def a_map(width=2):
    return AffineMap.of(np.random.default_rng(1).normal(size=(3, width)))
