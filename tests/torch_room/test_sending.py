"""Parts of rows on their way to a device."""

import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latalign.torch.sending import sent  # noqa: E402

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
