"""latalign inspect."""

import numpy as np

import latalign
from calls import done, done_json, run


class TestInspect:
    def test_all_that_the_file_says(self, folder):
        done(run("fit", "x.npy", "y.npy", "-o", "new.safetensors", "--source-name", "[old] net"))
        text = done(run("inspect", "new.safetensors"))
        for words in ("new.safetensors", "6 → 6", "[old] net", "← chosen", "held-out pairs: 40 rows"):
            assert words in text
        record = done_json(run("inspect", "new.safetensors", "--json"))
        assert record["source"] == "[old] net"
        assert record["evidence"] == latalign.AffineMap.load("new.safetensors").evidence.to_json()
        assert record["format"] == 1

    def test_a_map_without_evidence(self, folder):
        latalign.AffineMap.of(np.eye(3)).save("given.safetensors")
        assert "given" in done(run("inspect", "given.safetensors"))
        assert done_json(run("inspect", "given.safetensors", "--json"))["evidence"] is None
