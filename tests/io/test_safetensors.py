"""Safetensors: the library's own files, byte for byte, and what is refused of them."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save, save_file

from latalign import AffineMap
from latalign.io.arrays import open_rows, write_rows
from latalign.io.protocol import Block, Shape

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def saved(path, tensors, metadata=None):
    save_file(tensors, path, metadata)
    return path


def by_hand(path, kind, shape, size):
    """Write a file of one tensor whose dtype NumPy may not have."""
    header = json.dumps({"z": {"dtype": kind, "shape": shape, "data_offsets": [0, size]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16", "uint64"])
@pytest.mark.parametrize("name", ["rows", "encoder.layer.3", 'a "quoted" näme'])
def test_the_bytes_are_those_of_the_library(tmp_path, dtype, name):
    rows = ROWS.astype(dtype)
    with write_rows(f"{tmp_path}/a.safetensors:{name}", Shape(4, 3, rows.dtype)) as writer:
        for part in (rows[:3], rows[3:]):
            writer.append(Block(part))
    written = load_file(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(written[name], rows)
    if name.isascii() and '"' not in name:  # the libraries spell other letters differently
        assert (tmp_path / "a.safetensors").read_bytes() == save({name: rows})


def test_the_name_of_the_origin_is_kept(tmp_path):
    origin = open_rows(saved(tmp_path / "in.safetensors", {"emb": ROWS}))
    assert origin.location.name == "emb"
    with write_rows(tmp_path / "out.safetensors", Shape(4, 3, origin.dtype), origin) as writer:
        writer.append(Block(ROWS))
    assert set(load_file(tmp_path / "out.safetensors")) == {"emb"}


def test_one_of_several_tensors_is_named_or_the_only_one_of_rows(tmp_path):
    several = saved(tmp_path / "a.safetensors", {"x": ROWS, "y": ROWS[:2] + 1, "bias": ROWS[0]})
    np.testing.assert_array_equal(open_rows(f"{several}:y").load(), ROWS[:2] + 1)
    np.testing.assert_array_equal(next(open_rows(f"{several}:y").blocks(9)).rows, ROWS[:2] + 1)
    with pytest.raises(ValueError, match=r"needs one 2-D tensor of rows; it has: bias \[3\], x \[4, 3\], y"):
        open_rows(several)
    with pytest.raises(ValueError, match="has no tensor 'z'; it has: bias"):
        open_rows(f"{several}:z")
    with pytest.raises(ValueError, match=r"a.safetensors:bias holds an array of shape \(3,\)"):
        open_rows(f"{several}:bias")
    only = saved(tmp_path / "b.safetensors", {"bias": ROWS[0], "x": ROWS})
    assert open_rows(only).location.name == "x"


def test_bfloat16_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"holds BF16, which NumPy has no type for.*tensor\.float\(\)"):
        open_rows(by_hand(tmp_path / "a.safetensors", "BF16", [4, 3], 24))


def test_a_map_is_not_taken_for_rows(tmp_path):
    AffineMap.of(np.eye(3)).save(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="holds one of latalign's maps, not rows"):
        open_rows(tmp_path / "m.safetensors")


@pytest.mark.parametrize("shape", [[0, 3], [4, 3, 1], [12]])
def test_other_shapes_are_refused(tmp_path, shape):
    path = by_hand(tmp_path / "a.safetensors", "F32", shape, 4 * int(np.prod(shape)))
    with pytest.raises(ValueError, match=r"is empty|2-D"):
        open_rows(f"{path}:z")


def test_no_tensor_at_all_is_refused(tmp_path):
    with pytest.raises(ValueError, match="it has: none"):
        open_rows(saved(tmp_path / "a.safetensors", {}))


def test_numbers_that_are_not_aligned_are_read(tmp_path):
    header = json.dumps({"z": {"dtype": "F64", "shape": [2, 2], "data_offsets": [0, 32]}}).encode()
    header += b" " * ((3 - len(header)) % 8)
    values = np.arange(4.0).reshape(2, 2)
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + values.tobytes())
    reader = open_rows(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(reader.load(), values)
    np.testing.assert_array_equal(next(reader.blocks(5)).rows, values)


def test_a_reserved_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be called __metadata__"):
        write_rows(f"{tmp_path}/a.safetensors:__metadata__", Shape(4, 3, np.dtype("float32")))
