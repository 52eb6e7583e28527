"""Files that are whole or not there: what is at the place before, and links."""

import os

import pytest

from latalign.io.files import folder_beside, named_beside, written_beside

pytestmark = pytest.mark.skipif(os.name != "posix", reason="symbolic links of POSIX systems")


def put(path, content=b"new"):
    with written_beside(path) as file:
        file.write(content)


def test_what_a_link_points_to_is_replaced_and_the_link_stays(tmp_path):
    """A result that is kept on another disk stays there."""
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk" / "real.npy", tmp_path / "link.npy"
    real.write_bytes(b"old")
    link.symlink_to(real)
    put(link)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert [path.name for path in real.parent.iterdir()] == ["real.npy"]


def test_a_link_that_points_to_nothing_yet(tmp_path):
    link = tmp_path / "link.npy"
    link.symlink_to(tmp_path / "real.npy")
    put(link)
    assert (tmp_path / "real.npy").read_bytes() == b"new"
    nowhere = tmp_path / "nowhere.npy"
    nowhere.symlink_to(tmp_path / "none" / "real.npy")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npy: the folder .*none does not exist"):
        put(nowhere)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.npy", "nowhere.npy", "real.npy"]


def test_a_failure_through_a_link_changes_nothing(tmp_path):
    real, link = tmp_path / "real.npy", tmp_path / "link.npy"
    real.write_bytes(b"old")
    link.symlink_to(real)
    with pytest.raises(TypeError, match="bytes-like"):
        put(link, "text")
    assert real.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.npy", "real.npy"]


@pytest.mark.parametrize(
    ("making", "beside"), [("open", written_beside), ("open", named_beside), ("mkdir", folder_beside)]
)
def test_a_signal_that_comes_when_the_file_was_just_made(tmp_path, monkeypatch, making, beside):
    make = getattr(os, making)

    def made_and_ended(*arguments):
        make(*arguments)
        raise SystemExit(143)

    monkeypatch.setattr(os, making, made_and_ended)
    with pytest.raises(SystemExit), beside(tmp_path / "new"):
        pass
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_as_readable_as_others_that_the_user_makes(tmp_path):
    (tmp_path / "plain").touch()
    put(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode
