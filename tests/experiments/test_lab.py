"""What is trained once, kept, and measured."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pooch")
pytest.importorskip("matplotlib")

from latalign.experiments.cache import Cache, CacheWarning  # noqa: E402
from latalign.experiments.lab import Lab  # noqa: E402
from latalign.experiments.measures import (  # noqa: E402
    Icp,
    Mapped,
    Means,
    Own,
    Relative,
    Stitched,
    Unmapped,
)
from latalign.experiments.plan import PRESETS, needed  # noqa: E402
from latalign.experiments.specs import Anchors, EndToEnd, Network, RelativeDecoder, key  # noqa: E402
from latalign.experiments.tables import TABLES  # noqa: E402
from small_lab import CONV, MLP, counted  # noqa: E402

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.mark.parametrize(
    "spec", [CONV, RelativeDecoder(CONV, Anchors(6)), EndToEnd(MLP, Anchors(5), "cosine")], ids=str
)
def test_what_is_trained_once_is_taken_from_the_cache(place, spec, monkeypatch):
    error = Own(spec)(place)
    done = counted(monkeypatch)
    again = Lab(Cache(place.cache.folder))
    assert Own(spec)(again) == error
    assert not done
    assert again.is_trained(spec)


def test_a_smaller_set_is_gone_through_more_often(place):
    assert place.epochs(CONV) == 2  # 400 images' worth of 200


def test_other_images_seeds_and_settings_have_other_keys():
    networks = [
        CONV,
        MLP,
        Network("Fashion-MNIST", "conv", 4, 1, 1),
        Network("Fashion-MNIST", "conv", 4, 2, 0),
    ]
    specs = [*networks, RelativeDecoder(CONV, Anchors(6)), EndToEnd(CONV, Anchors(6)), Own(CONV)]
    assert len({key(spec, data) for spec in specs for data in ("a", "b")}) == 2 * len(specs)
    assert key(CONV, "a") == key(Network("Fashion-MNIST", "conv", 4, 1, 0), "a")


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign"])
def test_a_damaged_entry_is_made_anew(place, damage):
    error = Own(CONV)(place)
    (entry,) = place.cache.folder.glob("*.safetensors")
    content = bytearray(entry.read_bytes())
    if damage == "flipped":
        content[-5] ^= 1
    entry.write_bytes({"cut": content[:-8], "flipped": content, "foreign": b"not this"}[damage])
    again = Lab(Cache(place.cache.folder))
    with pytest.warns(CacheWarning, match=r"unsound .* made anew"):
        assert Own(CONV)(again) == error
    assert Lab(Cache(place.cache.folder)).is_trained(CONV)


def test_an_entry_of_other_layers_is_made_anew(place, monkeypatch):
    Own(CONV)(place)
    (entry,) = place.cache.folder.glob("*.safetensors")
    place.cache.store_arrays(entry.stem, {"decoder.0.weight": np.zeros((2, 2), np.float32)}, {})
    with pytest.warns(CacheWarning, match="other layers"):
        Own(CONV)(Lab(Cache(place.cache.folder)))
    assert Own(CONV)(Lab(Cache(place.cache.folder))) == Own(CONV)(place)


def test_a_damaged_value_is_measured_anew(tmp_path):
    cache = Cache(tmp_path)
    cache.store_value("a", {"error": 0.5, "seconds": 1.0})
    assert cache.value("a") == {"error": 0.5, "seconds": 1.0}
    (tmp_path / "a.json").write_text('{"error": 0.')
    with pytest.warns(CacheWarning, match="made anew"):
        assert cache.value("a") is None
    assert cache.value("b") is None


@pytest.mark.filterwarnings("ignore::latalign.IllConditionedWarning")  # two class means of four dimensions
def test_the_measures_are_what_their_names_say(place):
    every = Anchors(None)
    own, unmapped = Own(MLP)(place), Unmapped(CONV, MLP)(place)
    linear, rigid, affine = (Mapped(CONV, MLP, every, name)(place) for name in ("linear", "rigid", "affine"))
    assert own < affine <= 1.05 * linear < 1.1 * rigid
    assert rigid < unmapped
    # By hand, without the library: minimum-norm least squares of the codes.
    X, Y = place.codes(CONV, "train"), place.codes(MLP, "train")
    by_hand = place.codes(CONV, "test") @ np.linalg.lstsq(X, Y, rcond=None)[0]
    assert place.error(place.decoder(MLP), by_hand, "Fashion-MNIST") == pytest.approx(linear, rel=1e-4)
    scaled = Mapped(CONV, MLP, every, "linear", scale=3.0)(place)
    assert scaled == pytest.approx(linear, rel=1e-4)
    assert Mapped(CONV, MLP, every, "rigid", scale=3.0)(place) != pytest.approx(rigid, rel=0.01)
    assert Stitched(CONV, MLP, every, 2)(place) < unmapped
    assert Stitched(CONV, MLP, every, 2, epochs=1)(place) < 10 * unmapped
    assert Means(CONV, MLP, "rigid")(place) < unmapped
    for images in ("same", "other"):
        assert Icp(CONV, MLP, "rigid", "mutual", images)(place) < unmapped
    relative = [RelativeDecoder(spec, Anchors(6)) for spec in (CONV, MLP)]
    assert Relative(*relative)(place) >= Own(relative[1])(place)


def test_anchors_are_different_images_and_all_of_them_where_no_number_is_given(place):
    rows = place.rows(Anchors(7, seed=3), "Fashion-MNIST")
    assert len(set(rows)) == 7
    assert list(place.rows(Anchors(None), "Fashion-MNIST")) == list(range(200))
    for choice in ("farthest-point", "k-means"):
        assert len(set(place.rows(Anchors(7, 3, choice, space=CONV), "Fashion-MNIST"))) == 7
    with pytest.raises(ValueError, match="do not go together"):
        Anchors(7, 3, "k-means")


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_no_two_measures_or_networks_have_one_entry(preset):
    plans = [plan(preset) for plan in TABLES.values()]
    measures = {measure for plan in plans for cell in plan.cells for measure in cell.measures}
    every = {*measures, *(spec for stage in needed(plans) for spec in stage)}
    assert len({key(one, "the same images") for one in every}) == len(every)


def test_relative_codes_are_standardized_by_their_own_network(place):
    source, target = (EndToEnd(spec, Anchors(6)) for spec in (CONV, MLP))
    found, codes = Relative(source, target)(place), place.codes(source, "test")
    # By hand: the source's normalization, then the target's decoder without its own.
    with torch.no_grad():
        standardized = place.decoder(source)[0](torch.from_numpy(codes))
        images = place.decoder(target)[1:](standardized).numpy()
    by_hand = np.square(images - place.images("Fashion-MNIST", "test")).mean()
    assert found == pytest.approx(by_hand, rel=1e-4)
    assert np.array_equal(Relative(source, target, "target").codes(place), codes)
    assert Relative(target, target)(place) == pytest.approx(Own(target)(place), rel=1e-5)
