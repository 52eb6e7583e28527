"""Settings of PyTorch that would round more: overruled, and put back."""

import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latalign import Moments  # noqa: E402
from latalign.torch import accumulate, moments  # noqa: E402
from latalign.torch.device import exactly  # noqa: E402
from problems import assert_same_moments  # noqa: E402

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]


def settings():
    found = [torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision]
    return [*found, torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32]


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="PyTorch before 2.9")
class TestExactly:
    """What a user let PyTorch round is multiplied exactly, and is as it was afterwards."""

    @pytest.fixture(autouse=True)
    def put_back(self):
        yield
        torch.set_float32_matmul_precision("highest")
        for place in (
            torch.backends,
            torch.backends.cuda.matmul,
            torch.backends.mkldnn.matmul,
            torch.backends.mkldnn,
        ):
            place.fp32_precision = "none"

    @pytest.mark.parametrize("precision", ["highest", "high", "medium"])
    def test_settings_of_old(self, precision):
        torch.set_float32_matmul_precision(precision)
        before = settings()
        with exactly(torch.device("cpu")):
            assert torch.backends.cuda.matmul.fp32_precision in ("none", "ieee")
            assert torch.backends.mkldnn.matmul.fp32_precision in ("none", "ieee")
        assert settings() == before

    def test_settings_of_one_library(self):
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        with exactly(torch.device("cpu")):
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"

    def test_settings_that_are_inherited_stay_so(self):
        torch.backends.fp32_precision = "tf32"
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        with exactly(torch.device("cpu")):
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        torch.backends.fp32_precision = "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"

    def test_the_last_of_several_threads_puts_back(self):
        torch.set_float32_matmul_precision("high")
        inside, leave = threading.Event(), threading.Event()

        def other():
            with exactly(torch.device("cpu")):
                inside.set()
                leave.wait(10)

        thread = threading.Thread(target=other)
        with exactly(torch.device("cpu")):
            thread.start()
            assert inside.wait(10)
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        leave.set()
        thread.join()
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"

    def test_an_error_puts_back(self):
        torch.set_float32_matmul_precision("high")
        with pytest.raises(ValueError, match="NaN or infinity"):
            moments(torch.full((3, 2), torch.nan), torch.ones(3, 2), precision="fast")
        assert torch.get_float32_matmul_precision() == "high"

    @pytest.mark.parametrize("device", DEVICES)
    def test_moments_are_exact_all_the_same(self, rng, device):
        X, Y = (torch.from_numpy(rng.normal(size=(3000, 64)).astype(np.float32)) for _ in range(2))
        torch.set_float32_matmul_precision("medium")
        with torch.autocast(device, dtype=torch.bfloat16):
            found = moments(X, Y, device=device, precision="fast")
            summed = accumulate([(X, Y)], device=device, precision="fast")
        for one in (found, summed):
            assert_same_moments(one, Moments.of(X.numpy(), Y.numpy()), 1e-6)
