"""Parts of rows on their way to a device."""

import threading
import time
from contextlib import closing

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latalign.torch import sending  # noqa: E402
from latalign.torch.sending import Returning, sent  # noqa: E402
from torch_room.fake_gpu import DEVICE, Gpu  # noqa: E402

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]


class TestSent:
    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("kind", [torch.from_numpy, np.asarray])
    def test_a_part_lasts_until_the_next_is_asked_for(self, rng, device, kind):
        X, Y = rng.normal(size=(1000, 3)), rng.integers(0, 9, (1000, 2))
        where = torch.empty(0, device=device).device
        ready = threading.Event()

        def parts():
            for k in range(0, 1000, 90):
                if k == 270:
                    ready.set()  # while the third part is worked on, the fourth is made
                yield kind(X[k : k + 90]), kind(Y[k : k + 90])

        for number, (x, y) in enumerate(sent(parts(), (kind(X), kind(Y)), 90, where)):
            if number == 2 and (kind is np.asarray or device != "cpu"):
                assert ready.wait(10)
            assert x.device == y.device == where
            np.testing.assert_array_equal(x.cpu().numpy(), X[90 * number : 90 * number + 90])
            np.testing.assert_array_equal(y.cpu().numpy(), Y[90 * number : 90 * number + 90])
        assert number == 11

    def test_an_error_of_the_rows_comes_through(self):
        def parts():
            yield (np.ones((2, 2)),)
            raise OSError("the file is gone")

        with pytest.raises(OSError, match="the file is gone"):
            list(sent(parts(), (np.ones((4, 2)),), 2, torch.device("cpu")))


class Elsewhere(torch.Tensor):
    """A tensor that says it lies on another GPU."""

    device = torch.device("cuda", 1)


class TestOrder:
    """What waits for what on a GPU, where streams and events are ours."""

    @pytest.fixture
    def gpu(self, monkeypatch):
        return Gpu(monkeypatch)

    def lane(self, gpu, made=()):
        """A way that does nothing but tell what it uses, and what must be done before."""

        class Lane:
            def __init__(self, rows, like, device):
                self.copies, self.count = True, 0

            def put(self, rows, turn):
                before = self.count - 2  # what used the same two buffers
                gpu.here(f"fill {self.count}", *([f"copy {before}"] if before >= 0 else []))
                if made:  # rows of another device are read in that device's stream
                    gpu.work(f"read {self.count}", *made, stream=gpu.current(Elsewhere.device))
                gpu.work(f"copy {self.count}", *([f"use {before}"] if before >= 0 else []))
                self.count += 1
                return rows

        return Lane

    def test_every_reuse_waits(self, gpu, monkeypatch):
        monkeypatch.setattr(sending, "_Lane", self.lane(gpu))
        parts = ((np.ones((2, 2)),) for _ in range(9))
        for number, _ in enumerate(sent(parts, [np.ones((2, 2))], 2, DEVICE)):
            gpu.work(f"use {number}", f"copy {number}")
        assert number == 8

    def test_rows_of_another_gpu_are_copied_when_they_are_made(self, gpu, monkeypatch):
        monkeypatch.setattr(sending, "_Lane", self.lane(gpu, ["make"]))
        gpu.work("make", stream=gpu.current(Elsewhere.device))
        like = torch.ones(2, 2).as_subclass(Elsewhere)
        for device in (DEVICE, torch.device("cpu")):
            taken = sent(iter([(like,)]), [like], 2, device)
            if device.type == "cpu":  # whose order is that of the calls
                monkeypatch.setattr(gpu, "here", lambda *_: None)
            list(taken)

    def test_nothing_is_copied_any_more_when_it_is_left(self, gpu, monkeypatch):
        """Buffers are freed when the last copy was asked for, and is done."""
        done = []
        monkeypatch.setattr(sending, "_Lane", self.lane(gpu))
        close = sending._Order.close
        monkeypatch.setattr(sending._Order, "close", lambda self: done.append("closed") or close(self))

        def parts():
            for number in range(9):
                if number:
                    time.sleep(0.05)  # so that this is under way when the work fails
                yield (np.ones((2, 2)),)
                done.append("copied")

        with pytest.raises(RuntimeError, match="the work failed"):  # noqa: PT012, SIM117
            with closing(sent(parts(), [np.ones((2, 2))], 2, DEVICE)) as there:
                for _ in there:
                    raise RuntimeError("the work failed")
        assert done.count("closed") == 1
        assert done[-1] == "closed"

    def test_the_way_back_is_beside_the_work(self, gpu):
        class Buffer:
            def copy_(self, there, non_blocking):
                assert non_blocking
                assert gpu.current() is not work
                gpu.work(f"back {there.name}", f"make {there.name}")

        class Made:
            def __init__(self, name):
                self.name, self.used_by = name, []

            def record_stream(self, stream):
                self.used_by.append(stream)

        work, back = gpu.current(), Returning(DEVICE)
        waits, rows = [], [Made(f"{k}") for k in range(3)]
        for one in rows:
            gpu.work(f"make {one.name}")
            waits.append(back.copy((Buffer(), one)))
            assert one.used_by == [back._back]
        assert "back 2" not in work.known  # which goes on meanwhile
        for k, wait in enumerate(waits):
            wait()
            gpu.here("take", f"back {k}")
        back.close()
