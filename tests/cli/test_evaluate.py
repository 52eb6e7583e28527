"""latalign evaluate."""

import numpy as np

import latalign
from calls import done, done_json, run, written


class TestEvaluate:
    def test_the_record_is_the_librarys(self, folder):
        record = done_json(run("evaluate", "map.safetensors", "more.npy", "truth.npy", "--json"))
        map_ = latalign.AffineMap.load("map.safetensors")
        assert record == latalign.evaluate(map_, np.load("more.npy"), np.load("truth.npy")).to_json()

    def test_the_table(self, folder):
        text = done(run("evaluate", "map.safetensors", "more.npy", "truth.npy"))
        record = done_json(run("evaluate", "map.safetensors", "more.npy", "truth.npy", "--json"))
        assert "100 rows, 100 of them as queries" in text
        for column in ("mapped", "no map", "native"):
            assert column in text
        row = next(line for line in text.splitlines() if line.startswith("R²"))
        expected = [f"{record[name]['r2']:.4g}" for name in ("mapped", "no_map")]
        assert row.split()[-3:] == [*expected, "–"]
        for label, name in (("recall@10 by CSLS ↑", "csls_recall@10"), ("hubness ↓", "hubness")):
            row = next(line for line in text.splitlines() if line.startswith(label))
            assert row.split()[-3:] == [
                f"{record[column][name]:.4g}" for column in ("mapped", "no_map", "native")
            ]

    def test_the_seed_draws_the_queries(self, folder):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(2100, 6))
        written("many.npy", X)
        written("noisy.npy", X + rng.normal(size=X.shape))
        latalign.AffineMap.of(np.eye(6)).save("as-it-is.safetensors")
        call = ("evaluate", "as-it-is.safetensors", "many.npy", "noisy.npy", "--json", "--seed")
        one, again, other = (done_json(run(*call, seed)) for seed in (1, 1, 2))
        assert one == again
        assert one["queries"] == 2000
        assert one["mapped"]["mrr"] != other["mapped"]["mrr"]
        assert one["mapped"]["mse"] == other["mapped"]["mse"]
