"""Training the stitching MLP: what it learns, when it stops, and what it leaves alone."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import latalign  # noqa: E402
from latalign import AffineMap, StitchingMap, load_map  # noqa: E402
from latalign.torch import Stitched, fit_stitching, to_sequential  # noqa: E402
from latalign.torch import stitching as module  # noqa: E402
from problems import pairs, rotation  # noqa: E402


def bent(rng, n, dim=6, noise=0.0):
    """Rows whose relation no affine map can follow."""
    X = rng.normal(size=(n, dim))
    Y = np.abs(X @ rotation(rng, dim)) @ rng.normal(size=(dim, 4))
    return X, Y + noise * rng.normal(size=Y.shape)


def mse(map_, X, Y):
    return float(np.mean((map_(X) - Y) ** 2))


def same(one, other):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in zip(one.layers, other.layers, strict=True)
        for name in ("source_mean", "matrix", "target_mean")
    )


class TestLearning:
    @pytest.mark.filterwarnings("ignore::latalign.UnrelatedPairsWarning")  # no linear relation is there
    def test_what_is_not_linear(self, rng):
        X, Y = bent(rng, 2500)
        found = fit_stitching(X[:2000], Y[:2000], k=4, max_epochs=80)
        straight = latalign.fit(X[:2000], Y[:2000], "affine")
        assert mse(found, X[2000:], Y[2000:]) < 0.1 * mse(straight, X[2000:], Y[2000:])

    def test_nearly_least_squares_where_the_relation_is_linear(self, rng):
        X, Y = pairs(rng, 3000, 8, 5, noise=0.5)
        found = fit_stitching(X[:2000], Y[:2000])
        least = latalign.fit(X[:2000], Y[:2000], "affine")
        assert mse(found, X[2000:], Y[2000:]) < 1.1 * mse(least, X[2000:], Y[2000:])

    @pytest.mark.parametrize("n", [2, 3, 10, 50, 65])
    def test_few_pairs(self, rng, n):
        X, Y = pairs(rng, n + 200, 20, 20, noise=0.05)
        found = fit_stitching(X[:n], Y[:n])
        assert found.evidence.anchors == n
        mean = np.mean((Y[n:] - Y[:n].mean(axis=0)) ** 2)
        # Two pairs tell nothing; from ten on something must have been learned.
        assert mse(found, X[n:], Y[n:]) < (2 if n < 10 else 1) * mean

    def test_few_pairs_are_given_time_to_converge(self, rng):
        X, Y = pairs(rng, 400, 20, 20, noise=0.3)
        converged = fit_stitching(X[:100], Y[:100])
        cut_short = fit_stitching(X[:100], Y[:100], holdout=0, max_epochs=20)
        least = mse(latalign.fit(X[:100], Y[:100], "affine"), X[100:], Y[100:])
        assert mse(converged, X[100:], Y[100:]) < 2.5 * least
        assert mse(cut_short, X[100:], Y[100:]) > 2 * mse(converged, X[100:], Y[100:])

    def test_where_the_spaces_lie_and_their_scale_make_no_difference(self, rng):
        X, Y = bent(rng, 300, noise=0.1)
        plain = fit_stitching(X, Y, max_epochs=10)
        moved = fit_stitching(X * 2.0**8 + 3, Y * 2.0**-8 - 5, max_epochs=10)
        np.testing.assert_allclose(
            (moved(X * 2.0**8 + 3) + 5) * 2.0**8, plain(X), rtol=0, atol=1e-3 * np.abs(Y).max()
        )
        assert moved.evidence.heldout_error * 2.0**16 == pytest.approx(plain.evidence.heldout_error, rel=1e-2)

    @pytest.mark.parametrize("scale", [1e-200, 1e150])
    def test_extreme_scales(self, rng, scale):
        X, Y = bent(rng, 200)
        found = fit_stitching(X * scale, Y, max_epochs=5)
        np.testing.assert_allclose(
            found(X * scale), fit_stitching(X, Y, max_epochs=5)(X), rtol=1e-2, atol=1e-2
        )

    @pytest.mark.parametrize("k", [1, 2, 5])
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
    def test_widths_and_dtypes(self, rng, k, dtype):
        X = (4 * rng.normal(size=(40, 3))).astype(dtype)
        found = fit_stitching(X, X[:, :2], k=k, max_epochs=3)
        assert isinstance(found, StitchingMap)
        assert [layer.matrix.shape for layer in found.layers] == [(3, 3 * k), (3 * k, 3 * k), (3 * k, 2)]
        assert found.k == k
        assert found(X).dtype == (np.float64 if dtype == np.int64 else dtype)

    def test_a_map_fitted_is_a_map_saved(self, rng, tmp_path):
        X, Y = bent(rng, 100)
        found = fit_stitching(X, Y, max_epochs=4)
        found.save(tmp_path / "m.safetensors")
        loaded = load_map(tmp_path / "m.safetensors")
        assert same(loaded, found)
        assert loaded.evidence == found.evidence
        np.testing.assert_array_equal(loaded(X), found(X))


class TestStopping:
    def test_the_best_weights_are_the_ones_kept(self, rng):
        """With one bad step size the error goes up and down; what is returned is the lowest it was."""
        X, Y = bent(rng, 150, noise=1.0)
        errors = []
        found = fit_stitching(X, Y, lr=0.03, patience=2, progress=lambda done, total: errors.append(done))
        evidence = found.evidence
        assert errors == list(range(1, evidence.epochs + 1))
        # 135 pairs to train on are 3 steps an epoch, so an epoch of patience is 34 of them.
        assert evidence.epochs == evidence.best_epoch + 2 * 34
        # The same again, ended where the best was found: those weights, and no better ones before.
        until = fit_stitching(X, Y, lr=0.03, max_epochs=evidence.best_epoch)
        assert same(found, until)
        assert until.evidence.heldout_error == evidence.heldout_error

    def test_the_errors_are_those_of_the_map(self, rng):
        X, Y = bent(rng, 400, noise=0.3)
        found = fit_stitching(X, Y, max_epochs=15)
        held = module._held_out(latalign._validation.Pairs.of(X, Y), 0.1, np.random.default_rng(0))
        assert held.sum() == found.evidence.heldout_anchors == 40
        assert mse(found, X[held], Y[held]) == pytest.approx(found.evidence.heldout_error, rel=1e-4)
        assert mse(found, X[~held], Y[~held]) == pytest.approx(found.evidence.training_error, rel=1e-4)

    def test_without_heldout_pairs_exactly_so_many_epochs(self, rng):
        X, Y = bent(rng, 100)
        seen = []
        found = fit_stitching(X, Y, holdout=0, max_epochs=20, progress=lambda *at: seen.append(at))
        assert seen == [(epoch, 20) for epoch in range(1, 21)]
        evidence = found.evidence
        assert (evidence.epochs, evidence.best_epoch, evidence.heldout_anchors) == (20, 20, 0)
        assert evidence.heldout_error is None
        assert mse(found, X, Y) == pytest.approx(evidence.training_error, rel=1e-4)

    def test_equal_pairs_are_held_out_together(self, rng):
        X, Y = (np.repeat(side, 3, axis=0) for side in bent(rng, 40))
        held = module._held_out(latalign._validation.Pairs.of(X, Y), 0.1, np.random.default_rng(0))
        assert held.sum() == 12
        assert (held.reshape(40, 3).sum(axis=1) % 3 == 0).all()

    @pytest.mark.parametrize("holdout", [1e-6, 0.5, 0.999])
    @pytest.mark.parametrize("n", [2, 7])
    def test_one_pair_at_least_on_either_side(self, rng, holdout, n):
        X, Y = bent(rng, n)
        evidence = fit_stitching(X, Y, holdout=holdout, max_epochs=2).evidence
        assert 1 <= evidence.heldout_anchors <= n - 1


class TestManners:
    def test_the_same_for_a_seed(self, rng):
        X, Y = bent(rng, 200)
        one, two, other = (fit_stitching(X, Y, max_epochs=5, random_state=seed) for seed in (3, 3, 4))
        assert same(one, two)
        assert not same(one, other)
        assert same(one, fit_stitching(X, Y, max_epochs=5, random_state=np.random.default_rng(3)))

    def test_it_leaves_the_users_torch_as_it_was(self, rng):
        X, Y = bent(rng, 100)
        plain = fit_stitching(X, Y, max_epochs=3)
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        threads = torch.get_num_threads()
        seen = []
        torch.set_num_threads(3)
        torch.set_default_dtype(torch.float64)
        try:
            with torch.inference_mode():
                found = fit_stitching(
                    X, Y, max_epochs=3, progress=lambda *_: seen.append(torch.get_num_threads())
                )
                assert torch.is_inference_mode_enabled()
            assert torch.get_num_threads() == 3
            with pytest.raises(ZeroDivisionError):
                fit_stitching(X, Y, max_epochs=3, progress=lambda *_: 1 / 0)
            assert torch.get_num_threads() == 3
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(torch.float32)
        assert set(seen) == {1}
        assert torch.equal(torch.rand(3), expected)
        assert same(found, plain)
        with torch.no_grad():
            assert same(fit_stitching(X, Y, max_epochs=3), plain)

    def test_the_rows_stay_as_they_are(self, rng):
        X, Y = bent(rng, 50)
        for side in (X, Y):
            side.setflags(write=False)
        fit_stitching(X, Y, max_epochs=2)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_on_a_gpu(self, rng):
        X, Y = bent(rng, 500)
        on_gpu, on_cpu = (fit_stitching(X, Y, max_epochs=5, device=device) for device in ("cuda", "cpu"))
        np.testing.assert_allclose(on_gpu(X), on_cpu(X), rtol=0, atol=1e-2 * np.abs(Y).max())


class TestErrors:
    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"k": 0}, "k is a whole number of 1 or more; got 0"),
            ({"k": 1.5}, "k is a whole number of 1 or more; got 1.5"),
            ({"k": True}, "k is a whole number of 1 or more; got True"),
            ({"batch": 0}, "batch is a whole number of 1 or more; got 0"),
            ({"max_epochs": 0}, "max_epochs is a whole number of 1 or more; got 0"),
            ({"patience": -1}, "patience is a whole number of 1 or more; got -1"),
            ({"lr": 0}, "lr is a finite number above 0; got 0"),
            ({"lr": float("nan")}, "lr is a finite number above 0; got nan"),
            ({"holdout": 1}, "holdout is a share 0 ≤ holdout < 1; got 1"),
            ({"holdout": 0}, "with holdout=0 nothing tells when to stop"),
            ({"device": "toaster"}, "'toaster' is no device that works here"),
        ],
    )
    def test_options(self, rng, option, message):
        with pytest.raises(ValueError, match=f"fit_stitching: {message}"):
            fit_stitching(*bent(rng, 10), **option)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_gpu_that_is_not_there(self, rng):
        with pytest.raises(ValueError, match="'cuda' is no device that works here"):
            fit_stitching(*bent(rng, 10), device="cuda")

    def test_rows(self, rng):
        X, Y = bent(rng, 10)
        bad = X.copy()
        bad[3, 1] = np.nan
        with pytest.raises(
            ValueError, match=r"fit_stitching: the source X needs finite values; 1 of 10 .* row 3"
        ):
            fit_stitching(bad, Y)
        with pytest.raises(ValueError, match=r"fit_stitching: the target Y needs finite values"):
            fit_stitching(X, np.where(Y[2, 2] == Y, np.inf, Y))
        with pytest.raises(ValueError, match=r"X has 10 rows, Y has 9"):
            fit_stitching(X, Y[:9])
        with pytest.raises(ValueError, match=r"at least 2 pairs of rows; got 1"):
            fit_stitching(X[:1], Y[:1])
        with pytest.raises(ValueError, match=r"all 10 rows of the source X are the same"):
            fit_stitching(np.full((10, 3), 0.1), Y)
        with pytest.raises(ValueError, match=r"all 10 rows of the target Y are the same"):
            fit_stitching(X, np.ones((10, 3)))
        with pytest.raises(TypeError, match=r"fit_stitching: the source X needs an array of real numbers"):
            fit_stitching(X * 1j, Y)

    @pytest.mark.parametrize("side", ["source X", "target Y"])
    @pytest.mark.parametrize("scale", [1e156, 1e300, 1e307])
    def test_values_whose_squares_overflow(self, rng, side, scale):
        X, Y = bent(rng, 50)
        X, Y = (X * scale, Y) if side == "source X" else (X, Y * scale)
        with pytest.raises(
            ValueError, match=f"the values of the {side} are finite, but their squares overflow"
        ):
            fit_stitching(X, Y)

    @pytest.mark.parametrize("random_state", ["a", 1.5])
    def test_a_random_state_that_is_none(self, rng, random_state):
        with pytest.raises(TypeError, match="fit_stitching needs a random_state that is a whole number"):
            fit_stitching(*bent(rng, 10), random_state=random_state)

    @pytest.mark.parametrize("lr", [1e12, 1e21, 1e36])
    def test_a_loss_that_is_none(self, rng, lr):
        with pytest.raises(
            ValueError,
            match=r"the (training loss|held-out error) became (nan|inf) in epoch \d+\. Lower lr \(1e\+",
        ):
            fit_stitching(*bent(rng, 100), lr=lr, max_epochs=50)


class TestNetwork:
    def test_to_sequential_is_the_map(self, rng):
        X, Y = bent(rng, 100)
        found = fit_stitching(X, Y, max_epochs=3)
        network = to_sequential(found, dtype=torch.float64)
        assert [type(layer) for layer in network] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
        with torch.no_grad():
            np.testing.assert_allclose(network(torch.from_numpy(X)).numpy(), found(X), rtol=0, atol=1e-12)
        assert to_sequential(found)[0].weight.dtype == torch.float32
        assert all(parameter.requires_grad for parameter in network.parameters())

    def test_between_an_encoder_and_a_decoder(self, rng):
        found = fit_stitching(*bent(rng, 100), max_epochs=3)
        encoder, decoder = nn.Linear(9, 6).double(), nn.Linear(4, 7).double()
        network = Stitched(encoder, found, decoder)
        x = torch.from_numpy(rng.normal(size=(5, 9)))
        with torch.no_grad():
            expected = decoder(torch.from_numpy(found(encoder(x).numpy())))
            np.testing.assert_allclose(network(x), expected, rtol=0, atol=1e-12)
        assert not any(parameter.requires_grad for parameter in network.map.parameters())
        with pytest.raises(ValueError, match=r"takes codes of 6 dimensions; the encoder returned 5"):
            Stitched(nn.Linear(9, 5).double(), found, decoder)(x)

    def test_an_affine_map_is_no_network(self):
        with pytest.raises(
            TypeError, match=r"needs a StitchingMap \(what fit_stitching returns\); got AffineMap"
        ):
            to_sequential(AffineMap.of(np.eye(2)))
