"""The demo, whole, on few small images."""

import io
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pooch = pytest.importorskip("pooch")
pytest.importorskip("matplotlib")

from matplotlib.image import imread  # noqa: E402
from rich.console import Console  # noqa: E402

import latalign  # noqa: E402
from latalign import AffineMap, read_header  # noqa: E402
from latalign.experiments import demo  # noqa: E402
from latalign.experiments.crossing import Coded, cross  # noqa: E402
from latalign.experiments.data import digits  # noqa: E402
from latalign.experiments.demo import Setting, run_demo  # noqa: E402
from latalign.experiments.networks import ConvAutoencoder, MLPAutoencoder  # noqa: E402
from latalign.methods import LEAST_SQUARES  # noqa: E402
from latalign.torch import Stitched  # noqa: E402

FILES = {"demo.png", "table.json", "conv-to-mlp.safetensors", "mlp-to-conv.safetensors"}


def quick(**given):
    return Setting(**{"dataset": digits(), "latent": 20, "epochs": 1, **given})


def silent(**given):
    return Console(file=io.StringIO(), width=200, **given)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """One run that learns something, with the networks that it trained."""
    networks, console = {}, silent()
    trained = demo._trained

    def keep(name, *given):
        networks[name], training = trained(name, *given)
        return networks[name], training

    folder = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_trained", keep)
        result = run_demo(folder, epochs=20, console=console, setting=quick())
    return result, networks, folder, console.file.getvalue()


def test_every_file_is_there_and_readable(ran):
    result, _, folder, text = ran
    assert {path.name for path in folder.iterdir()} == FILES
    drawn = imread(folder / "demo.png")
    assert drawn.shape[0] > 500
    assert drawn.shape[1] > 1000
    assert drawn[..., :3].std() > 0.1  # there is something in it
    assert json.loads((folder / "table.json").read_text()) == json.loads(json.dumps(result.to_json()))
    for words in ("conv → MLP", "MLP → conv", "no map", "rigid (paper)", "ridge", "affine"):
        assert words in text
    assert "\x1b" not in text


def test_the_table_is_what_the_saved_maps_do(ran):
    result, networks, folder, _ = ran
    dataset = result.setting.dataset
    images = torch.from_numpy(dataset.normalized(dataset.test))
    for crossing in result.crossings:
        path = folder / f"{crossing.source}-to-{crossing.target}.safetensors".lower()
        loaded, header = AffineMap.load(path), read_header(path)
        assert (header.source, header.target, header.dataset) == (
            crossing.source,
            crossing.target,
            dataset.name,
        )
        assert loaded.evidence.anchors == 100
        assert loaded.evidence.candidates
        source, target = networks[crossing.source], networks[crossing.target]
        with torch.no_grad():
            crossed = Stitched(source.encoder, loaded, target.decoder)(images)
            own = target.decoder(target.encoder(images))
            bare = target.decoder(source.encoder(images))
        for found, decoded in (
            (crossing.errors["auto"], crossed),
            (crossing.own, own),
            (crossing.no_map, bare),
        ):
            assert found == pytest.approx(((decoded - images) ** 2).mean().item(), rel=1e-4)


def test_the_figures_show_the_papers_point(ran):
    result = ran[0]
    assert [(c.source, c.target) for c in result.crossings] == [("conv", "MLP"), ("MLP", "conv")]
    for crossing in result.crossings:
        assert set(crossing.errors) == {*(method.name for method in LEAST_SQUARES), "auto"}
        assert crossing.own < crossing.errors["ridge"] < crossing.errors["rigid"] < crossing.no_map
        assert crossing.errors["linear"] < crossing.errors["rigid"]
        assert crossing.errors["auto"] <= 1.05 * min(crossing.errors.values())


def test_the_same_seed_gives_the_same_figures(tmp_path):
    figures = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        result = run_demo(tmp_path / folder, seed=seed, console=silent(), setting=quick())
        figures.append(result.to_json()["directions"])
    assert figures[0] == figures[1] != figures[2]
    assert (tmp_path / "a/demo.png").read_bytes() == (tmp_path / "b/demo.png").read_bytes()


def test_bars_are_for_a_terminal_and_on_stderr(tmp_path, monkeypatch, capsys):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    console = silent()
    run_demo(tmp_path / "a", console=console, setting=quick())
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # how rich is told that a stream is a terminal
    run_demo(tmp_path / "b", console=console, setting=quick())
    out, err = capsys.readouterr()
    assert out == ""
    for name in ("conv", "MLP"):
        assert f"training the {name}" in err
        assert f"training the {name}" not in console.file.getvalue()


def test_digits_stand_in_where_there_is_no_fashion_mnist(monkeypatch, tmp_path):
    def retrieve(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.delenv("LATALIGN_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "cache")
    console = silent()
    result = run_demo(tmp_path / "out", epochs=1, console=console)
    assert "digits" in result.setting.dataset.name
    assert "The digits of scikit-learn stand in" in " ".join(console.file.getvalue().split())


def test_bad_calls_do_no_work(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "train", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        run_demo(tmp_path / "no" / "out", console=silent(), setting=quick())
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        run_demo(tmp_path / "file", console=silent(), setting=quick())
    with pytest.raises(ValueError, match="seed"):
        run_demo(tmp_path / "out", seed=-1, console=silent(), setting=quick())
    with pytest.raises(ValueError, match="anchors to be 1 to"):
        run_demo(tmp_path / "out", console=silent(), setting=quick(anchors=10**6))
    with pytest.raises(ValueError, match="epochs"):
        run_demo(tmp_path / "out", epochs=0, console=silent(), setting=quick())
    with pytest.raises(ValueError, match="epochs"):
        run_demo(tmp_path / "out", console=silent(), setting=quick(epochs=0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_codes_of_different_widths_cross_too():
    dataset = digits()
    images = dataset.normalized(dataset.test)
    conv = Coded.of("conv", ConvAutoencoder(8, 6), images[:100], images)
    mlp = Coded.of("MLP", MLPAutoencoder(8, 9), images[:100], images)
    found = cross(conv, mlp, images, methods=("ridge",))
    assert found.no_map is None
    again = latalign.fit(conv.anchors, mlp.anchors, "ridge")
    np.testing.assert_allclose(found.maps["ridge"].matrix, again.matrix, rtol=1e-6, atol=1e-9)
    assert np.isfinite(found.errors["ridge"])
