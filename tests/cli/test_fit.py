"""latalign fit."""

import numpy as np
import pytest

import latalign
from calls import done, done_json, refused, run, written
from latalign.methods import LEAST_SQUARES


class TestFit:
    @pytest.mark.parametrize("source", ["x.npy", "x.safetensors", "x.parquet"])
    @pytest.mark.parametrize("target", ["y.npy", "y.safetensors:rows", "y.parquet:embedding"])
    def test_the_map_is_that_of_all_rows(self, folder, source, target):
        text = done(run("fit", source, target, "-o", "new.safetensors", "--method", "affine"))
        assert "new.safetensors: affine, 6 → 6 dimensions, 200 anchors" in text
        assert "held-out pairs: 40 rows" in text
        expected = latalign.fit(np.load("x.npy"), np.load("y.npy"), "affine")
        np.testing.assert_array_equal(latalign.AffineMap.load("new.safetensors").matrix, expected.matrix)

    def test_auto_shows_what_it_chose_from(self, folder):
        text = done(run("fit", "x.npy", "y.npy", "-o", "new.safetensors"))
        chosen = [line for line in text.splitlines() if "← chosen" in line]
        assert len(chosen) == 1
        assert chosen[0].startswith(latalign.AffineMap.load("new.safetensors").method)
        for method in LEAST_SQUARES:
            assert any(line.startswith(method.name) for line in text.splitlines())
        assert "…" not in text  # all of it fits a terminal of 80 columns

    def test_the_record(self, folder):
        record = done_json(
            run(
                *("fit", "x.npy", "y.npy", "-o", "new.safetensors", "--json", "--holdout", "0.25"),
                *("--source-name", "old", "--target-name", "new", "--dataset", "texts", "--seed", "7"),
            )
        )
        loaded = latalign.AffineMap.load("new.safetensors")
        assert record["output"] == "new.safetensors"
        assert record["method"] == loaded.method
        assert record["evidence"] == loaded.evidence.to_json()
        assert {row["method"] for row in record["evidence"]["candidates"]} == {
            method.name for method in LEAST_SQUARES
        }
        assert record["heldout"]["rows"] == record["evidence"]["heldout"]["rows"] == 50
        assert record["heldout"]["mapped"]["mse"] == record["evidence"]["heldout"]["mse"]
        header = latalign.read_header("new.safetensors")
        assert (header.source, header.target, header.dataset) == ("old", "new", "texts")

    def test_the_seed_draws_the_held_out_pairs(self, folder):
        call = ("fit", "x.npy", "y.npy", "-o", "new.safetensors", "--method", "rigid", "--json", "--seed")
        one, again, other = (done_json(run(*call, seed)) for seed in (1, 1, 2))
        assert one == again
        assert one["heldout"] != other["heldout"]

    def test_no_holdout(self, folder):
        record = done_json(run("fit", "x.npy", "y.npy", "-o", "new.safetensors", "--holdout", 0, "--json"))
        assert record["heldout"] is None
        assert record["evidence"]["heldout"] is None
        text = done(run("fit", "x.npy", "y.npy", "-o", "new.safetensors", "--holdout", 0))
        assert "held-out" not in text

    def test_parameters_of_a_method(self, folder):
        call = ("fit", "x.npy", "y.npy", "-o", "new.safetensors", "--json", "--method")
        assert done_json(run(*call, "ridge", "--alpha", 2.5))["evidence"]["alpha"] == 2.5
        assert done_json(run(*call, "ridge", "--alpha", "auto"))["evidence"]["alpha"] > 0
        assert done_json(run(*call, "low_rank", "--rank", 2))["evidence"]["target_rank"] == 2
        assert done_json(run(*call, "low_rank", "--rank", "auto"))["evidence"]["target_rank"] >= 1
        fast = done_json(run(*call, "affine", "--precision", "fast"))
        assert fast["heldout"]["mapped"]["r2"] > 0.8

    @pytest.mark.parametrize("scoring", ["cosine", "recall@1"])
    def test_other_scorings(self, folder, scoring):
        call = ("fit", "x.npy", "y.npy", "-o", "new.safetensors", "--scoring", scoring)
        assert done_json(run(*call, "--json"))["evidence"]["scoring"] == scoring
        assert f"1 − {scoring}" in done(run(*call))

    def test_the_curve(self, folder):
        call = ("fit", "x.npy", "y.npy", "-o", "new.safetensors", "--method", "affine", "--seed", 3)
        plain = done(run(*call))
        text = done(run(*call, "--curve"))
        assert text.startswith(plain)
        found = latalign.learning_curve(np.load("x.npy"), np.load("y.npy"), "affine", random_state=3)
        assert found.check.passed
        assert all(f"\n{point.anchors:>7} " in text for point in found.points)
        assert "all, extrapolated" in text
        assert "twice, extrapolated" in text
        assert f"Twice the anchors would take {100 * found.saving.share:.1f} % of the error away" in text
        record = done_json(run(*call, "--curve", "--json"))
        assert record["curve"] == found.to_json()
        assert done_json(run(*call, "--json"))["curve"] is None

    def test_a_curve_that_the_law_does_not_follow(self, folder):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(50, 38))
        written("x38.npy", X)
        written("y38.npy", X + 0.3 * rng.normal(size=X.shape))
        text = done(
            run("fit", "x38.npy", "y38.npy", "-o", "new.safetensors", "--method", "affine", "--curve")
        )
        assert "It does not hold, so nothing is extrapolated." in text
        assert "Twice" not in text

    def test_pairs_by_id(self, folder):
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        X, Y = np.load("x.npy"), np.load("y.npy")
        order = np.random.default_rng(0).permutation(200)
        pq.write_table(pa.table({"id": range(200), "v": list(X)}), "a.parquet")
        pq.write_table(pa.table({"id": order, "v": list(Y[order])}), "b.parquet")
        pq.write_table(pa.table({"id": order[:150], "v": list(Y[order[:150]])}), "c.parquet")
        call = ("-o", "new.safetensors", "--method", "affine", "--id-column", "id")
        done(run("fit", "a.parquet", "b.parquet", *call))
        expected = latalign.fit(X, Y, "affine").matrix
        np.testing.assert_allclose(latalign.AffineMap.load("new.safetensors").matrix, expected, atol=1e-9)
        refused(run("fit", "a.parquet", "c.parquet", *call), 1, "50 of 200 source ids are missing")
        record = done_json(run("fit", "a.parquet", "c.parquet", *call, "--unmatched", "drop", "--json"))
        assert record["evidence"]["anchors"] == 150

    def test_undetermined_pairs_work_and_warn_once_with_the_remedy(self, folder):
        X = np.random.default_rng(0).normal(size=(30, 50))
        written("few.npy", X)
        result = run("fit", "few.npy", "few.npy", "-o", "new.safetensors", "--method", "affine", "--json")
        done_json(result)
        lines = result.stderr.splitlines()
        assert [line.partition(":")[0] for line in lines] == ["Warning", "Warning"]
        assert sum("anchors determine" in line and 'method="ridge"' in line for line in lines) == 1
        assert sum("only 6 rows are held out" in line for line in lines) == 1
        assert ".py" not in result.stderr

    def test_too_few_rows_to_hold_out_are_said_to_be(self, folder):
        written("few.npy", np.random.default_rng(0).normal(size=(4, 2)))
        result = run("fit", "few.npy", "few.npy", "-o", "new.safetensors", "--method", "rigid")
        done(result)
        assert "Warning: no held-out error: 0.2 of 4 rows leaves 1 to test" in result.stderr


class TestForQueries:
    def test_the_map_that_bends(self, folder):
        call = ("fit", "x.npy", "y.parquet", "-o", "new.safetensors", "--method", "local_retrieval")
        text = done(run(*call, "--alpha", "0.3"))
        assert "new.safetensors: local_retrieval, 6 → 6 dimensions, 200 anchors" in text
        assert "held-out pairs: 40 rows" in text
        X, Y, rows = np.load("x.npy"), np.load("y.npy"), np.load("more.npy")
        expected = latalign.local_retrieval(X, Y, alpha=0.3)
        np.testing.assert_array_equal(latalign.load_map("new.safetensors")(rows), expected(rows))
        record = done_json(run(*call, "--json", "--holdout", "0", "--scoring", "recall@1"))
        expected = latalign.local_retrieval(X, Y, scoring="recall@1")
        assert (record["method"], record["heldout"]) == (expected.method, None)
        assert record["evidence"] == expected.evidence.to_json()

    @pytest.mark.parametrize("method", ["retrieval", "local_retrieval"])
    def test_queries_without_counterparts(self, folder, method):
        call = ("fit", "x.npy", "y.npy", "-o", "new.safetensors", "--method", method, "--queries", "more.npy")
        done(run(*call))
        X, Y, queries = np.load("x.npy"), np.load("y.npy"), np.load("more.npy")
        fitted = latalign.fit(X, Y, "retrieval") if method == "retrieval" else latalign.local_retrieval(X, Y)
        expected = latalign.for_queries(fitted, queries)
        np.testing.assert_array_equal(latalign.load_map("new.safetensors")(queries), expected(queries))

    def test_queries_of_another_width(self, folder):
        np.save(folder / "wide.npy", np.zeros((40, 7)))
        call = (
            "fit",
            "x.npy",
            "y.npy",
            "-o",
            "new.safetensors",
            "--method",
            "retrieval",
            "--queries",
            "wide.npy",
        )
        refused(
            run(*call), 1, "wide.npy has rows of 7 dimensions and x.npy of 6: queries are of the source model"
        )
        assert not (folder / "new.safetensors").exists()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                ("--queries", "more.npy"),
                "--queries go with --method retrieval or local_retrieval; got --method auto",
            ),
            (("--method", "local_retrieval", "--curve"), "of which local_retrieval makes nothing"),
            (("--method", "local_retrieval", "--scoring", "mse"), "of which local_retrieval makes nothing"),
            (("--method", "local_retrieval", "--uncertainty"), "which local_retrieval does not"),
            (("--method", "local_retrieval", "--rank", "3"), "--rank goes with --method low_rank"),
        ],
    )
    def test_options_that_do_not_go_with_it(self, folder, nothing_left, options, message):
        refused(run("fit", "x.npy", "y.npy", "-o", "new.safetensors", *options), 2, message)

    @pytest.mark.parametrize("options", [("--robust",), ("--precision", "fast")])
    def test_it_keeps_its_anchors_as_they_are(self, folder, nothing_left, options):
        call = ("fit", "x.npy", "y.npy", "-o", "new.safetensors", "--method", "local_retrieval", *options)
        refused(run(*call), 1, "goes without robust, precision, engine and place")
