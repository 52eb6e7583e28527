"""Moments that a device sums, against those of NumPy; what needs a GPU waits for one."""

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latalign import Moments  # noqa: E402
from latalign import moments as in_memory  # noqa: E402
from latalign.torch import accumulate, moments  # noqa: E402
from latalign.torch.products import DeviceBuffers  # noqa: E402
from problems import assert_same_moments, pairs  # noqa: E402

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]
TOLERANCE = {"double": 1e-12, "fast": 1e-6}


@pytest.fixture
def short_blocks(monkeypatch):
    """Blocks of a few hundred rows, so that a few thousand make several."""
    monkeypatch.setattr(in_memory, "_BLOCK_VALUES", 1)
    monkeypatch.setattr("latalign.torch.products._BLOCK_BYTES", 1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16, np.uint8])
@pytest.mark.parametrize("weighted", [False, True])
def test_those_of_the_processor(rng, short_blocks, device, precision, dtype, weighted):
    X, Y = pairs(rng, 2600, 13, 7, shift=30.0)
    X, Y = X.astype(dtype), Y.astype(np.float32)
    w = rng.integers(0, 3, 2600) * 0.7 if weighted else None
    expected = Moments.of(X, Y, sample_weight=w)
    for x, y in ((torch.from_numpy(X), torch.from_numpy(Y)), (X, Y), (torch.from_numpy(X), Y)):
        found = moments(x, y, sample_weight=w, device=device, precision=precision)
        assert_same_moments(found, expected, TOLERANCE[precision])
        assert found.rounding == np.finfo({"double": np.float64, "fast": np.float32}[precision]).eps


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("n", [1, 2, 1023, 1024, 1025, 5000])
def test_blocks_and_chunks_do_not_show(rng, short_blocks, device, precision, n):
    X, Y = (rng.normal(size=(n, dim)) + 1e4 for dim in (9, 14))
    found = moments(torch.from_numpy(X), Y, device=device, precision=precision)
    assert_same_moments(found, Moments.of(X, Y), TOLERANCE[precision])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", TOLERANCE)
def test_chunks_that_do_not_fit_together(rng, monkeypatch, device, precision):
    monkeypatch.setattr("latalign.torch.products._PRODUCTS", 2 * 9 * 14)
    X, Y = (rng.normal(size=(5000, dim)) for dim in (9, 14))
    buffers = moments(torch.from_numpy(X), torch.from_numpy(Y), device=device, precision=precision)
    assert_same_moments(buffers, Moments.of(X, Y), TOLERANCE[precision])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("mean", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_means_keep_their_digits(rng, short_blocks, device, precision, mean, dtype):
    X, Y = (torch.from_numpy(rng.normal(size=(3000, 5)) + mean).to(dtype) for _ in range(2))
    expected = Moments.of(X.numpy(), Y.numpy())
    assert_same_moments(moments(X, Y, device=device, precision=precision), expected, TOLERANCE[precision])


@pytest.mark.parametrize("device", DEVICES)
def test_sorted_rows_lose_nothing(rng, short_blocks, device):
    X = np.sort(rng.normal(size=(8000, 1)), axis=0) * 1e-3 + np.repeat(np.arange(8.0) * 1e6, 1000)[:, None]
    X = np.hstack([X, rng.normal(size=(8000, 2))])
    found = moments(torch.from_numpy(X), X, device=device)
    assert_same_moments(found, Moments.of(X, X), 1e-12)
    within = np.cov(X[:1000].T) * 999
    rest = moments(torch.from_numpy(X[1000:]), X[1000:], device=device)
    first = (found - rest).xx
    np.testing.assert_allclose(first[1:, 1:], within[1:, 1:], rtol=0, atol=1e-9 * within[1, 1])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["double", "fast", "bfloat16"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_constant_column_has_no_spread(rng, short_blocks, device, precision, dtype):
    X = torch.from_numpy(rng.normal(size=(5000, 3))).to(dtype)
    X[:, 1] = 0.1
    found = moments(X, X, device=device, precision=precision)
    assert found.xx_diagonal[1] == 0
    assert list(found.source_varies) == [True, False, True]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("grams", ["both", "source", "none"])
def test_the_gram_matrices_that_are_asked_for(rng, device, grams):
    X, Y = (rng.normal(size=(100, dim)) for dim in (3, 4))
    found = moments(torch.from_numpy(X), Y, device=device, grams=grams)
    expected = Moments.of(X, Y, grams=grams)
    for name in ("source_gram", "target_gram"):
        assert (getattr(found, name) is None) == (getattr(expected, name) is None)
    np.testing.assert_allclose(found.yy_diagonal, expected.yy_diagonal)
    np.testing.assert_allclose(found.xy, expected.xy, atol=1e-12)


class TestBfloat16:
    @pytest.mark.parametrize("device", DEVICES)
    def test_rows_are_exact(self, rng, device):
        X, Y = (torch.from_numpy(rng.normal(size=(3000, 6)) + 3).bfloat16() for _ in range(2))
        expected = Moments.of(X.double().numpy(), Y.double().numpy())
        assert_same_moments(moments(X, Y, device=device), expected, 1e-12)
        assert_same_moments(moments(X, Y.float().numpy(), device=device, precision="fast"), expected, 1e-6)

    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("weighted", [False, True])
    def test_products_are_of_rows_that_are_rounded_once(self, rng, device, weighted):
        X, Y = (rng.normal(size=(900, dim)).astype(np.float32) + 3 for dim in (6, 4))
        w = rng.uniform(0.5, 2, 900) if weighted else None
        found = moments(X, Y, sample_weight=w, device=device, precision="bfloat16")
        assert found.rounding == 2.0**-7
        root = np.ones(900) if w is None else np.sqrt(w)

        def rounded(rows):
            mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
            scaled = (rows - mean) * root.astype(np.float32)[:, None]
            return torch.from_numpy(scaled).bfloat16().double().numpy()

        x, y = rounded(X), rounded(Y)
        total = (root**2).sum()
        xy = x.T @ y - np.outer(root @ x, root @ y) / total
        assert np.linalg.norm(found.xy - xy) < 1e-6 * np.sqrt(
            np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
        )
        exact = Moments.of(X, Y, sample_weight=w)
        assert 1e-5 < np.linalg.norm(found.xx - exact.xx) / np.linalg.norm(exact.xx) < 1e-2


@pytest.mark.parametrize("precision", ["fast", "bfloat16"])
@pytest.mark.parametrize("scale", [1e-30, 1e25])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_leaves_the_range_of_float32_is_multiplied_in_float64(rng, precision, scale, dtype):
    X, Y = ((rng.normal(size=(500, 3)) + 3) * scale).astype(dtype), rng.normal(size=(500, 2)).astype(dtype)
    assert_same_moments(moments(X, torch.from_numpy(Y), precision=precision), Moments.of(X, Y), 1e-12)


class TestWhateverTheTensor:
    def test_is_not_contiguous(self, rng):
        X, Y = rng.normal(size=(40, 6)), rng.normal(size=(60, 5))
        x, y = torch.from_numpy(X)[::2, ::3], torch.from_numpy(Y.T.copy()).T[:20]
        assert_same_moments(moments(x, y), Moments.of(X[::2, ::3], Y[:20]), 1e-12)

    def test_has_a_history(self, rng):
        X = torch.from_numpy(rng.normal(size=(20, 3))).requires_grad_()
        found = moments(2 * X, X)
        np.testing.assert_allclose(found.xy, 2 * found.yy)
        assert X.grad is None

    @pytest.mark.parametrize("dtype", [torch.bool, torch.uint16, torch.float8_e4m3fn])
    def test_has_an_uncommon_dtype(self, rng, dtype):
        X = torch.from_numpy(rng.integers(0, 2, (50, 3))).to(dtype)
        expected = Moments.of(X.double().numpy(), X.double().numpy())
        assert_same_moments(moments(X, X), expected, 1e-12)
        assert_same_moments(accumulate([(X, X), (X, X)]), expected + expected, 1e-12)

    @pytest.mark.parametrize(
        "X", [torch.ones(3, 2, dtype=torch.complex64), torch.eye(3).to_sparse()], ids=["complex", "sparse"]
    )
    def test_holds_no_real_numbers(self, X):
        with pytest.raises(TypeError, match=r"moments: the target Y needs a dense tensor of real numbers"):
            moments(torch.ones(3, 2), X)

    @pytest.mark.parametrize(
        ("shape", "words"),
        [
            ((3,), r"2-D array \(rows, dimensions\); got shape \(3,\)"),
            ((0, 3), "at least one row"),
            ((4, 3), "X has 4 rows, Y has 5"),
        ],
    )
    def test_has_the_wrong_shape(self, shape, words):
        with pytest.raises(ValueError, match=words):
            moments(torch.ones(shape), torch.ones(5, 2))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("device", DEVICES)
def test_in_every_mode(rng, short_blocks, mode, device):
    X = rng.normal(size=(3000, 3))
    with mode():
        made = torch.from_numpy(X).clone()
        found = moments(X, made, device=device), moments(made, X[::-1].copy(), device=device)
    assert_same_moments(found[0], Moments.of(X, X), 1e-12)
    assert_same_moments(found[1], Moments.of(X, X[::-1]), 1e-12)
    assert_same_moments(moments(made, X, device=device), Moments.of(X, X), 1e-12)


def test_rows_of_a_file_that_may_only_be_read(rng, tmp_path, short_blocks):
    X = rng.normal(size=(3000, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", X)
    rows = np.load(tmp_path / "x.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same_moments(moments(rows, rows), Moments.of(X, X), 1e-12)
        assert_same_moments(accumulate([(rows, rows)]), Moments.of(X, X), 1e-12)


def test_weights_may_be_a_tensor(rng):
    X, w = rng.normal(size=(50, 3)), rng.uniform(0, 1, 50).astype(np.float32)
    found = moments(X, X, sample_weight=torch.from_numpy(w).requires_grad_())
    assert_same_moments(found, Moments.of(X, X, sample_weight=w), 1e-12)


class TestBadRows:
    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("kind", [torch.from_numpy, np.asarray])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_are_counted(self, rng, short_blocks, device, kind, value):
        X, Y = rng.normal(size=(4000, 3)), rng.normal(size=(4000, 2))
        Y[[7, 2500, 3999], [0, 1, 0]] = value
        with pytest.raises(
            ValueError, match=r"the target Y needs finite values; 3 of 4000 rows .*is row 7\)"
        ):
            moments(kind(X), kind(Y), device=device)
        with pytest.raises(ValueError, match=r"target Y needs finite values; 3 of 4000 rows .*is row 7\)"):
            Moments.of(X, Y)

    @pytest.mark.parametrize("kind", [torch.from_numpy, np.asarray])
    def test_of_no_weight_are_not_looked_at(self, rng, short_blocks, kind):
        X, w = rng.normal(size=(3000, 3)), np.ones(3000)
        X[1024:2100], w[1024:2100] = np.nan, 0
        found = moments(kind(X), kind(X), sample_weight=w)
        assert_same_moments(found, Moments.of(X, X, sample_weight=w), 1e-12)
        X[2200] = np.nan
        for call in (moments, Moments.of):
            with pytest.raises(ValueError, match=r"1 of 1924 rows contain .*\(the first is row 1124\)"):
                call(kind(X), kind(X), sample_weight=w)

    def test_are_told_from_squares_that_overflow(self):
        X = torch.tensor([[1e200], [-1e200]], dtype=torch.float64)
        with pytest.raises(ValueError, match="finite, but their squares overflow float64"):
            moments(X, X)
        with pytest.raises(ValueError, match=r"batches 0 to 2: accumulate: .*squares overflow float64"):
            accumulate([(X, X)] * 3)


class TestAccumulate:
    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("size", [1, 37, 1024, 2500])
    @pytest.mark.parametrize("precision", TOLERANCE)
    @pytest.mark.parametrize("weighted", [False, True])
    def test_is_of_the_whole(self, rng, short_blocks, device, size, precision, weighted):
        X, Y = pairs(rng, 2800 if size > 1 else 60, 6, 9)
        w = rng.integers(0, 3, len(X)) + 1.0 * (np.arange(len(X)) % size == 0)
        expected = Moments.of(X, Y, sample_weight=w if weighted else None)

        def batches():
            for k in range(0, len(X), size):
                part = slice(k, k + size)
                sides = torch.from_numpy(X[part]).to(device), Y[part]
                yield (*sides, w[part]) if weighted else sides

        assert_same_moments(accumulate(batches(), precision=precision), expected, TOLERANCE[precision])

    def test_memory_of_a_batch_may_be_used_again(self, rng):
        X, buffer = rng.normal(size=(100, 3)), torch.empty(10, 3, dtype=torch.float64)

        def batches():
            for k in range(0, 100, 10):
                buffer.copy_(torch.from_numpy(X[k : k + 10]))
                yield buffer, buffer
                buffer.fill_(torch.nan)

        assert_same_moments(accumulate(batches()), Moments.of(X, X), 1e-12)

    def test_some_batches_have_weights_and_others_another_dtype(self, rng):
        X = rng.normal(size=(90, 3)).astype(np.float16)
        w = np.concatenate([np.ones(30), rng.uniform(size=60)])
        found = accumulate(
            [
                (X[:30], X[:30]),
                (X[30:50].astype(np.float64), X[30:50], w[30:50]),
                (torch.from_numpy(X[50:]), X[50:], torch.from_numpy(w[50:])),
            ]
        )
        assert_same_moments(found, Moments.of(X, X, sample_weight=w), 1e-12)

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
    def test_networks_that_run_meanwhile_are_not_touched(self, rng, short_blocks, mode):
        one, other = torch.nn.Linear(8, 3), torch.nn.Linear(8, 2)
        inputs = [torch.randn(700, 8) for _ in range(4)]

        def batches():
            with mode():
                for x in inputs:
                    yield one(x), other(x)
                    assert torch.is_grad_enabled() == (mode is torch.enable_grad)
                    assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)

        with torch.no_grad():
            X, Y = (torch.cat([net(x) for x in inputs]).numpy() for net in (one, other))
        assert_same_moments(accumulate(batches()), Moments.of(X, Y), 1e-12)

    @pytest.mark.parametrize("side", [0, 1])
    def test_a_bad_row_is_named(self, rng, short_blocks, side):
        batches = [[torch.from_numpy(rng.normal(size=(900, 3))) for _ in range(2)] for _ in range(4)]
        batches[2][side][850, 1] = torch.nan
        name = ("source X", "target Y")[side]
        with pytest.raises(
            ValueError, match=f"batch 2: accumulate: the {name} needs .*; row 850 contains NaN"
        ):
            accumulate(batches)

    def test_batches_that_do_not_fit(self):
        X = torch.ones(3, 2)
        with pytest.raises(ValueError, match="at least one batch"):
            accumulate([])
        with pytest.raises(ValueError, match=r"batch 1: .*got 1 entries"):
            accumulate([(X, X), (X,)])
        with pytest.raises(
            ValueError, match=r"batch 1: accumulate needs rows that correspond: X has 3 rows, Y has 2"
        ):
            accumulate([(X, X), (X, X[:2])])
        with pytest.raises(ValueError, match=r"batch 1: .*equal dimensions; got \(2, 2\) and \(2, 1\)"):
            accumulate([(X, X), (X, X[:, :1])])
        with pytest.raises(TypeError, match="batch 0: accumulate: the source X needs"):
            accumulate([("no rows", X)])


@pytest.mark.parametrize(("argument", "value"), [("precision", "half"), ("grams", "all")])
def test_unknown_choices(argument, value):
    with pytest.raises(ValueError, match=f"{argument} is "):
        moments(torch.ones(3, 2), torch.ones(3, 2), **{argument: value})


@pytest.mark.parametrize("device", ["meta", "nowhere", pytest.param("cuda:99")])
def test_a_device_that_does_not_work(device):
    with pytest.raises(ValueError, match=rf"moments: '{device}' is no device that works here"):
        moments(np.eye(3), np.eye(3), device=device)


@GPU
class TestOnAGpu:
    """What a processor cannot show: where rows lie, what memory they take, and what waits for what."""

    def test_tensors_stay_where_they_are(self, rng):
        X = torch.from_numpy(rng.normal(size=(3000, 5)))
        found = moments(X.cuda(), X)
        assert_same_moments(found, Moments.of(X.numpy(), X.numpy()), 1e-12)

    def test_arrays_go_there_by_themselves(self, rng):
        torch.cuda.reset_peak_memory_stats()
        X = rng.normal(size=(3000, 5))
        before = torch.cuda.max_memory_allocated()
        assert_same_moments(moments(X, X), Moments.of(X, X), 1e-12)
        assert torch.cuda.max_memory_allocated() > before

    @pytest.mark.parametrize("precision", ["double", "fast", "bfloat16"])
    def test_memory_does_not_grow_with_the_rows(self, rng, short_blocks, precision):
        peaks = []
        for rows in (10_000, 80_000):
            X = rng.standard_normal((rows, 256), dtype=np.float32)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            moments(X, X, precision=precision)
            peaks.append(torch.cuda.max_memory_allocated())
        assert peaks[1] <= 1.1 * peaks[0]

    @pytest.mark.parametrize("precision", TOLERANCE)
    def test_many_blocks_arrive_whole(self, rng, short_blocks, precision):
        X = rng.standard_normal((200_000, 64), dtype=np.float32) + 3
        Y = rng.standard_normal((200_000, 32), dtype=np.float32)
        assert_same_moments(moments(X, Y, precision=precision), Moments.of(X, Y), TOLERANCE[precision])

    def test_on_a_stream_of_the_users_own(self, rng, short_blocks):
        X = rng.standard_normal((100_000, 64), dtype=np.float32)
        with torch.cuda.stream(torch.cuda.Stream()):
            there = torch.from_numpy(X).cuda(non_blocking=True) * 2
            found = moments(there, X)
        assert_same_moments(found, Moments.of(2 * X, X), 1e-12)

    def test_bfloat16_products_are_not_rounded_again(self, rng):
        X = torch.from_numpy(rng.normal(size=(5000, 64))).cuda()
        on_gpu, on_cpu = (moments(rows, rows, precision="bfloat16") for rows in (X, X.cpu()))
        assert_same_moments(on_gpu, on_cpu, 1e-5)

    def test_memory_is_given_back(self, rng):
        X = torch.from_numpy(rng.normal(size=(5000, 64)))
        moments(X, X, device="cuda")
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        for _ in range(3):
            moments(X, X, device="cuda")
        assert torch.cuda.memory_allocated() <= before


def test_buffers_are_made_once(rng, short_blocks, monkeypatch):
    """A sum of many blocks centres them all in the same memory."""
    made = []
    monkeypatch.setattr(
        DeviceBuffers,
        "__init__",
        lambda self, *a, init=DeviceBuffers.__init__: made.append(a) or init(self, *a),
    )
    moments(torch.from_numpy(rng.normal(size=(5000, 3))), rng.normal(size=(5000, 2)))
    assert [entry[0] for entry in made] == [in_memory.block_rows((3, 2), "double")]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mean", [0, 0.7, 6, 25, 50, 400])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32])
def test_few_different_values_do_not_round_alike(rng, device, mean, dtype):
    X = torch.from_numpy(1.25 * rng.normal(size=(20_000, 6)))
    X = ((X * (mean + 0.5)).round() if dtype == torch.int32 else X + mean).to(dtype)
    found = moments(X, X[:, :2], precision="fast", device=device)
    exact = Moments.of(X.double().numpy(), X[:, :2].double().numpy())
    assert_same_moments(found, exact, 1e-6)
