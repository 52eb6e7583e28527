"""Arrow files: read batch by batch and not mapped, so that one which is cut ends the reading, not the process."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from foreign_files import ROWS, pa
from latalign.io import ipc
from latalign.io.arrays import open_rows
from latalign.io.arrow_messages import record_batches

TEXTS = [f"t{k % 7}" for k in range(90)]
LISTS = pa.FixedSizeListArray.from_arrays(pa.array(ROWS.reshape(-1)), 3)
TABLES = {
    "plain": pa.table({"id": range(90), "v": LISTS, "text": TEXTS}),
    "dictionary": pa.table({"id": pa.array(TEXTS).dictionary_encode(), "v": LISTS}),
}
FORMS = {"file": pa.ipc.new_file, "stream": pa.ipc.new_stream}


@pytest.fixture(params=[(t, f, c) for t in TABLES for f in FORMS for c in (None, "lz4")])
def written(request, tmp_path):
    """A file of batches of 13 rows, and the table that it holds."""
    name, form, compression = request.param
    options = pa.ipc.IpcWriteOptions(compression=compression)
    path = tmp_path / "a.arrow"
    with (
        pa.OSFile(str(path), "wb") as file,
        FORMS[form](file, TABLES[name].schema, options=options) as into,
    ):
        into.write_table(TABLES[name], 13)
    return path, TABLES[name]


def test_the_heads_tell_of_every_batch(written):
    path, found = written
    with pa.OSFile(str(path)) as source:
        heads = list(record_batches(source))
    assert [head.rows for head in heads] == [13] * 6 + [12]
    assert {head.dictionaries for head in heads} == {pa.types.is_dictionary(found.schema.field("id").type)}
    assert all(head.size >= 12 * 3 * 4 for head in heads) or heads[0].compressed
    assert all(one.start < other.start for one, other in pairwise(heads))


@pytest.mark.parametrize("limit", [64 << 20, 10])  # the second maps what it may
def test_any_rows_of_it(written, monkeypatch, limit):
    monkeypatch.setattr(ipc, "_READ_BYTES", limit)
    path, found = written
    reader = open_rows(path)
    for start, stop in ((0, 90), (13, 14), (12, 40), (89, 90)):
        blocks = list(reader.blocks(5, start, stop))
        np.testing.assert_array_equal(np.concatenate([one.rows for one in blocks]), ROWS[start:stop])
        beside = pa.Table.from_batches([one.beside for one in blocks])
        assert beside.to_pylist() == found.slice(start, stop - start).to_pylist()
        alone = np.concatenate([one.rows for one in reader.blocks(5, start, stop, beside=False)])
        np.testing.assert_array_equal(alone, ROWS[start:stop])
    assert list(reader.ids("id")) == found["id"].to_pylist()


def test_of_what_is_passed_over_nothing_is_read(tmp_path, monkeypatch):
    path = tmp_path / "a.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, TABLES["plain"].schema) as into:
        into.write_table(TABLES["plain"], 13)
    reader, read = open_rows(path), []
    batch = ipc._batch
    monkeypatch.setattr(ipc, "_batch", lambda *given: read.append(given[2]) or batch(*given))
    list(reader.blocks(5, 41, 50))
    assert read == [3]


@pytest.mark.parametrize("kept", [0, 7, 100, 0.5, -1, -9])
def test_a_file_that_was_cut_is_refused(written, kept):
    path, _ = written
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(ValueError, match="is not an Arrow file, or it is truncated"):
        list(open_rows(path).blocks(20))


CUT = """
import os, sys
from latalign.io.arrays import open_rows
# The file is cut between any check of its length and what is read next.
os.stat = os.fstat = lambda *a, stat=os.stat, **k: stat(*a, **k)
blocks = open_rows(sys.argv[1]).blocks(10)
next(blocks)
os.truncate(sys.argv[1], 2000)
try:
    list(blocks)
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_cut_while_it_is_read_ends_in_an_error(tmp_path, form):
    """In a process of its own, which a mapped file would end."""
    rows = np.random.default_rng(0).normal(size=(4000, 16))
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), 16)
    path = tmp_path / "a.arrow"
    with pa.OSFile(str(path), "wb") as file, FORMS[form](file, pa.schema([("v", lists.type)])) as into:
        into.write_table(pa.table({"v": lists}), 1000)
    found = subprocess.run([sys.executable, "-c", CUT, path], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "a.arrow" in found.stdout
    assert "truncated" in found.stdout


def test_a_large_batch_that_is_mapped_is_looked_at_before_every_part(tmp_path, monkeypatch):
    monkeypatch.setattr(ipc, "_READ_BYTES", 1000)
    path = tmp_path / "a.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, TABLES["plain"].schema) as into:
        into.write_table(TABLES["plain"], 90)
    blocks = open_rows(path).blocks(10)
    next(blocks)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(ValueError, match=r"a\.arrow ended early: another program changed it"):
        next(blocks)
