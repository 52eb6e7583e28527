"""The demo, whole, on few small images."""

import io
import json
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pooch = pytest.importorskip("pooch")
pytest.importorskip("matplotlib")

from matplotlib.image import imread  # noqa: E402
from rich.console import Console  # noqa: E402

from latalign import METHODS, AffineMap, read_header  # noqa: E402
from latalign.anchors import random_anchors  # noqa: E402
from latalign.experiments import demo  # noqa: E402
from latalign.experiments.crossing import Coded, cross  # noqa: E402
from latalign.experiments.data import Dataset, digits  # noqa: E402
from latalign.experiments.demo import run_demo  # noqa: E402
from latalign.torch import Stitched  # noqa: E402

FILES = {"demo.png", "table.json", "conv-to-mlp.safetensors", "mlp-to-conv.safetensors"}


@pytest.fixture(scope="module")
def small():
    """The digits, the first 600 to train on."""
    whole = digits()
    return Dataset(
        whole.name, whole.train.take(slice(0, 600)), whole.test, whole.white, whole.mean, whole.deviation
    )


@pytest.fixture(scope="module")
def ran(small, tmp_path_factory):
    """One run, with the networks that it trained."""
    text = io.StringIO()
    kept = {}
    trained = demo._trained

    def keep(*given):
        kept.update(trained(*given))
        return kept

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_trained", keep)
        folder = tmp_path_factory.mktemp("demo") / "out"
        result = run_demo(folder, epochs=12, console=Console(file=text, width=200), dataset=small)
    return result, kept, text.getvalue()


def test_every_file_is_there_and_readable(ran):
    result, _, text = ran
    folder = result.picture.parent
    assert {path.name for path in folder.iterdir()} == FILES
    picture = imread(result.picture)
    assert picture.shape[0] > 500
    assert picture.shape[1] > 1000
    assert picture[..., :3].std() > 0.1  # there is something in it
    assert json.loads(result.table.read_text()) == result.to_json()
    for path in (result.picture, result.table, *result.maps):
        assert f"wrote {path}" in text.replace("\n", "")


def test_the_table_is_what_the_saved_maps_do(ran, small):
    result, networks, _ = ran
    images = torch.from_numpy(small.normalized(small.test))
    table = json.loads(result.table.read_text())
    for path, row in zip(result.maps, table["crossings"], strict=True):
        loaded, header = AffineMap.load(path), read_header(path)
        assert (header.source, header.target, header.dataset) == (row["source"], row["target"], small.name)
        assert loaded.evidence.anchors == 100
        assert loaded.evidence.candidates
        assert loaded.method == row["methods"]["auto"]["method"]
        source, target = networks[row["source"]], networks[row["target"]]
        with torch.no_grad():
            stitched = Stitched(source.encoder, loaded, target.decoder)(images)
            errors = {
                "auto": ((stitched - images) ** 2).mean().item(),
                "own": ((target(images) - images) ** 2).mean().item(),
                "no_map": ((target.decoder(source.encoder(images)) - images) ** 2).mean().item(),
            }
        assert row["methods"]["auto"]["error"] == pytest.approx(errors["auto"], rel=1e-4)
        assert row["own"] == pytest.approx(errors["own"], rel=1e-4)
        assert row["no_map"] == pytest.approx(errors["no_map"], rel=1e-4)


def test_the_maps_are_fitted_on_the_anchors(ran, small):
    result, networks, _ = ran
    anchors = random_anchors(600, 100, random_state=0)
    images = small.normalized(small.train.take(anchors))
    conv, mlp = (Coded.of(name, network, images, images[:1]) for name, network in networks.items())
    import latalign

    again = latalign.fit(conv.anchors, mlp.anchors, "linear")
    np.testing.assert_allclose(
        result.crossings[0].reading("linear").map.matrix, again.matrix, rtol=1e-6, atol=1e-9
    )


def test_the_figures_show_the_papers_point(ran):
    result, _, _ = ran
    assert [(c.source, c.target) for c in result.crossings] == [("conv", "mlp"), ("mlp", "conv")]
    for crossing in result.crossings:
        assert set(crossing.errors) == {*METHODS, "auto"}
        assert crossing.own < crossing.errors["ridge"] < crossing.errors["rigid"] < crossing.no_map
        assert crossing.errors["linear"] < crossing.errors["rigid"]
        assert crossing.errors["auto"] <= 1.05 * min(crossing.errors.values())


def test_the_console_has_a_table_and_no_bars(ran):
    _, _, text = ran
    for words in ("conv → MLP", "MLP → conv", "× own", "no map", *METHODS, "auto ("):
        assert words in text
    assert "training the" not in text
    assert "\x1b" not in text


def test_a_terminal_gets_bars(small, tmp_path):
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    run_demo(tmp_path, epochs=1, console=console, dataset=small)
    assert "training the conv autoencoder" in text.getvalue()
    assert "training the MLP autoencoder" in text.getvalue()


def test_the_same_seed_gives_the_same_figures_and_no_console_no_words(small, tmp_path, capfd):
    figures = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        result = run_demo(tmp_path / folder, epochs=1, seed=seed, dataset=small)
        figures.append([c.to_json() for c in result.crossings])
    assert figures[0] == figures[1] != figures[2]
    assert (tmp_path / "a/demo.png").read_bytes() == (tmp_path / "b/demo.png").read_bytes()
    assert capfd.readouterr() == ("", "")
    with pytest.raises(FrozenInstanceError):
        result.seed = 3


def test_digits_stand_in_where_there_is_no_fashion_mnist(monkeypatch, tmp_path):
    def retrieve(**given):
        raise ConnectionError("no network")

    monkeypatch.delenv("LATALIGN_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    text = io.StringIO()
    result = run_demo(tmp_path / "out", epochs=1, console=Console(file=text, width=200))
    assert (result.dataset, result.latent, result.train_images) == ("scikit-learn digits", 16, 1437)
    assert "Fashion-MNIST was not found" in text.getvalue()
    assert "take its place" in text.getvalue()


def test_bad_calls_do_no_work(small, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "train", lambda *given, **more: pytest.fail("it trained"))
    with pytest.raises(
        FileNotFoundError, match=r"cannot make .*: the folder .* does not exist\. Make it first"
    ):
        run_demo(tmp_path / "no" / "out", dataset=small)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"it is a file\. Name a folder"):
        run_demo(tmp_path / "file", dataset=small)
    with pytest.raises(ValueError, match=r"1 or more epochs; got 0"):
        run_demo(tmp_path / "out", epochs=0, dataset=small)
    with pytest.raises(ValueError, match=r"a seed of 0 or more; got -1"):
        run_demo(tmp_path / "out", seed=-1, dataset=small)
    assert not (tmp_path / "out").exists()
    few = Dataset("few", small.train.take(slice(0, 50)), small.test, 16, 0.3, 0.4)
    with pytest.raises(ValueError, match=r"1 ≤ n_anchors ≤ 50 rows; got 100"):
        run_demo(tmp_path / "out", dataset=few)
    assert not any((tmp_path / "out").iterdir())


def test_codes_of_different_widths_cross_too(small):
    from latalign.experiments.networks import ConvAutoencoder, MLPAutoencoder

    images = small.normalized(small.test)
    conv = Coded.of("conv", ConvAutoencoder(8, 6), images[:100], images)
    mlp = Coded.of("mlp", MLPAutoencoder(8, 9), images[:100], images)
    found = cross(conv, mlp, images, methods=("ridge",))
    assert found.no_map is None
    assert np.isfinite(found.reading("ridge").error)
    assert found.to_json()["methods"]["ridge"]["alpha"] == found.reading("ridge").map.evidence.alpha
