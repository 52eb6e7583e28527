"""The tables of the paper: what is trained once, what is measured, what is written, and what failures cost."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor

torch = pytest.importorskip("torch")
pytest.importorskip("pooch")
pytest.importorskip("matplotlib")

from latalign.experiments import acceptance, lab, page, tables, work  # noqa: E402
from latalign.experiments import reproduce as module  # noqa: E402
from latalign.experiments.cache import Cache, CacheWarning  # noqa: E402
from latalign.experiments.data import FASHION_MNIST, Dataset, Split  # noqa: E402
from latalign.experiments.findings import CLAIMS, findings  # noqa: E402
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
from latalign.experiments.plan import PRESETS, Cell, Plan, Preset, needed, published  # noqa: E402
from latalign.experiments.report import markdown  # noqa: E402
from latalign.experiments.reproduce import reproduce  # noqa: E402
from latalign.experiments.results import Result, Table  # noqa: E402
from latalign.experiments.specs import Anchors, EndToEnd, Network, RelativeDecoder, key  # noqa: E402
from latalign.experiments.tables import TABLES  # noqa: E402

SMALL = Preset("small", seeds=2, draws=2, epochs=1, everything=False)
CONV, MLP = (Network("Fashion-MNIST", kind, 4, 1, 0) for kind in ("conv", "MLP"))


def made(output="linear", name="tiny"):
    """Return images of two patterns, and a label for each."""
    rng = np.random.default_rng(0)
    patterns = rng.uniform(size=(2, 8, 8))
    labels = np.arange(240) % 2
    images = 255 * np.clip(patterns[labels] * rng.uniform(0.3, 1, (240, 1, 1)), 0, 1)
    whole = Split(images.astype(np.uint8), labels.astype(np.uint8))
    return Dataset(name, whole.take(slice(0, 200)), whole.take(slice(200, None)), 255, 0.3, 0.3, output)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Put the tiny images in the place of both data sets, and let an epoch be one."""
    monkeypatch.setattr(lab, "load", lambda archive: made())
    monkeypatch.setattr(lab, "mnist", lambda: made("sigmoid", "tiny digits"))
    monkeypatch.setattr(lab, "_EPOCH", 400)
    forget()
    yield
    forget()


def forget():
    """Forget what is kept in memory, as another process would."""
    for kept in (lab.dataset, lab.fingerprint, work._lab):
        kept.cache_clear()


@pytest.fixture
def place(tmp_path):
    return Lab(Cache(tmp_path / "cache"))


def counted(monkeypatch):
    """Count the trainings."""
    done = []
    inner = lab.train
    monkeypatch.setattr(lab, "train", lambda *given, **more: done.append(1) or inner(*given, **more))
    return done


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


def small_plan(preset):
    def pair(seed):
        return (Network("MNIST", "conv", 3, preset.epochs, 2 * seed + side) for side in range(2))

    cells = [
        Cell({"latent": 3}, "ae_baseline", tuple(Own(tuple(pair(s))[1]) for s in range(preset.seeds)), 0.5),
        Cell(
            {"latent": 3},
            "linear",
            tuple(
                Mapped(*pair(s), Anchors(20, draw), "linear")
                for s in range(preset.seeds)
                for draw in range(preset.draws)
            ),
            0.6,
        ),
    ]
    return Plan("table1", "Table 1: small", "Does it work?", tuple(cells))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(module, "TABLES", {"table1": small_plan})
    monkeypatch.setattr(module, "PRESETS", {"small": SMALL})


def run(tmp_path, **more):
    return reproduce(["table1"], tmp_path / "out", preset="small", jobs=1, cache=tmp_path / "cache", **more)


def test_a_table_is_written_three_ways(tmp_path, small, capsys):
    (table,) = run(tmp_path)
    out = capsys.readouterr().out
    assert "preset small" in out
    assert "minute" in out
    assert "tiny digits" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "table1.json",
        "table1.md",
        "table1.png",
    ]
    linear = table.cell("linear", latent=3)
    assert len(linear.errors) == SMALL.seeds * SMALL.draws
    assert linear.mean == pytest.approx(np.mean(linear.errors))
    assert linear.deviation == pytest.approx(np.std(linear.errors, ddof=1))
    record = json.loads((tmp_path / "out" / "table1.json").read_text())
    (cell,) = [one for one in record["results"] if one["column"] == "linear"]
    assert cell["mean"] == linear.mean
    assert cell["excess_over_floor"] == pytest.approx(linear.mean - made("sigmoid").floor)
    assert cell["configuration"]["kind"] == "Mapped"
    assert cell["seeds"] == 2
    text = (tmp_path / "out" / "table1.md").read_text()
    assert "*0.6*" in text
    assert f"{linear.mean:.4f} ±" in text
    loaded = Table.load(tmp_path / "out" / "table1.json")
    assert loaded.cell("linear", latent=3).errors == linear.errors
    assert markdown(loaded) == text


def test_what_was_done_is_not_done_again(tmp_path, small, monkeypatch):
    (table,) = run(tmp_path)
    forget()
    done = counted(monkeypatch)
    monkeypatch.setattr(Mapped, "__call__", lambda self, lab: pytest.fail("measured again"))
    (again,) = run(tmp_path)
    assert not done
    assert again.results == table.results


def test_an_interrupted_run_goes_on(tmp_path, small, monkeypatch):
    inner, calls = lab.train, []

    def interrupted(*given, **more):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return inner(*given, **more)

    monkeypatch.setattr("latalign.experiments.estimate.train", inner)
    monkeypatch.setattr(lab, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert len(calls) == 3
    forget()
    run(tmp_path)
    assert len(calls) == 3 + 2  # of four networks two were there


def test_a_failed_training_costs_its_cells_and_names_itself(tmp_path, small, monkeypatch):
    inner = lab.train

    def failing(network, *given, seed, **more):
        if seed == 2:
            raise ValueError("train: the loss of Sequential became nan")
        return inner(network, *given, seed=seed, **more)

    monkeypatch.setattr(lab, "train", failing)
    (table,) = run(tmp_path)
    # Seed 1 of the table maps network 2 to network 3.
    own, linear = (table.cell(name, latent=3) for name in ("ae_baseline", "linear"))
    assert len(own.errors) == 2
    assert len(linear.errors) == 2
    assert len(linear.failures) == 2
    assert "MNIST, conv, codes of 3, seed 2" in linear.failures[0]
    assert "became nan" in linear.failures[0]
    text = (tmp_path / "out" / "table1.md").read_text()
    assert "[2 failed]" in text
    assert "codes of 3, seed 2: train: the loss" in text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"names": ["table7"]}, "table1, .* and all; got 'table7'"),
        ({"names": []}, "needs a table"),
        ({"preset": "slow"}, "preset is 'quick' or 'full'"),
        ({"seeds": 0}, "1 seed or more"),
        ({"jobs": 0}, "1 process or more"),
        ({"device": "tpu"}, "device is"),
    ],
)
def test_wrong_calls_leave_nothing(tmp_path, given, text):
    names = given.pop("names", ["table1"])
    with pytest.raises(ValueError, match=text):
        reproduce(names, tmp_path / "out", cache=tmp_path / "cache", **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
@pytest.mark.parametrize("name", TABLES)
def test_plans_have_the_papers_numbers(name, preset):
    plan = TABLES[name](preset)
    cells = {(tuple(cell.row.items()), cell.column) for cell in plan.cells}
    assert len(cells) == len(plan.cells)
    rows = list(published(name))
    theirs = {column for column in rows[0] if column not in ("latent", "anchors", "direction")}
    assert theirs <= {cell.column for cell in plan.cells}
    found = sorted(cell.paper for cell in plan.cells if cell.paper is not None)
    everything = sorted(float(row[column]) for row in rows for column in theirs)
    assert found == everything if preset.everything else set(found) <= set(everything)
    alone, built = needed([plan])
    assert all(isinstance(spec, Network) for spec in alone)
    assert {cell_need for cell in plan.cells for one in cell.measures for cell_need in one.needs} <= {
        *alone,
        *built,
    }


def test_quick_is_part_of_full_but_for_its_epochs():
    quick, full = (needed([TABLES["table5"](PRESETS[name])]) for name in ("quick", "full"))
    epochs = PRESETS["full"].epochs
    assert {replace(spec, epochs=epochs) for spec in quick[0]} <= set(full[0])


def fake_table(name, cells, preset):
    results = [
        Result(row, column, tuple(errors), (), 1, 0.0, None, 0.46, {}) for row, column, errors in cells
    ]
    return Table(name, name, "", preset, ("made up",), "cpu", tuple(results))


def good_tables():
    """Return tables that show what they must."""
    preset = Preset("made up", 1, 1, 1, True)
    five, four = [], []
    for direction, own in (("conv_to_mlp", "mlp"), ("mlp_to_conv", "conv")):
        for anchors in (50, 100, 200, 500, "all"):
            row = {"direction": direction, "latent": 50, "anchors": anchors}
            errors = {
                "rigid": 0.2,
                "similarity": 0.15,
                "linear": 0.1,
                "affine": 0.1,
                "ridge": 0.099,
                "no map": 1.0,
            }
            errors |= {own: 0.09 if own == "mlp" else 0.065}
            errors |= {
                f"{method} (source × 3)": errors[method] for method in ("similarity", "linear", "ridge")
            }
            if anchors == 50:
                errors["linear"] = 3.0
            five += [(row, column, [error]) for column, error in errors.items()]
        row = {"networks": f"Fashion-MNIST {direction}", "latent": 50}
        four += [(row, "means_linear", [0.2]), (row, "means_icp_linear (one-sided, other images)", [0.7])]
        four += [(row, "means_icp_linear", [0.6])]
    return {
        "table1": fake_table("table1", [({"latent": 2}, "linear", [0.5])], preset),
        "table4": fake_table("table4", four, preset),
        "table5": fake_table("table5", five, preset),
    }


def test_acceptance_passes_and_fails_as_it_must(tmp_path, capsys):
    made_up = good_tables()
    for name, table in made_up.items():
        table.save(tmp_path / f"{name}.json")
    assert acceptance.main([str(tmp_path)]) == 0
    assert "0 failed" in capsys.readouterr().out
    record = json.loads((tmp_path / "table5.json").read_text())
    for cell in record["results"]:
        if cell["column"] == "ridge (source × 3)":
            cell["errors"] = [cell["errors"][0] * 1.01]
    (tmp_path / "table5.json").write_text(json.dumps(record))
    assert acceptance.main([str(tmp_path)]) == 1
    assert "FAILS" in capsys.readouterr().out
    (tmp_path / "table4.json").unlink()
    assert acceptance.main([str(tmp_path)]) == 2
    assert "Make the tables first" in capsys.readouterr().err


def test_a_foreign_file_is_no_table(tmp_path):
    (tmp_path / "table1.json").write_text('{"name": "table1"}')
    with pytest.raises(ValueError, match="is not a table of latalign reproduce"):
        Table.load(tmp_path / "table1.json")


def test_every_table_has_its_file():
    assert all(getattr(tables, name).plan is TABLES[name] for name in TABLES)


def test_findings_count_settings_repetitions_and_the_paper():
    def result(latent, column, errors, paper):
        return Result({"latent": latent}, column, errors, (), 2, 0.0, paper, 0.4, {})

    results = (
        result(2, "rigid", (0.5, 0.6), 0.9),
        result(2, "linear", (0.6, 0.8), 0.8),
        result(10, "rigid", (0.6, 0.5), 0.7),
        result(10, "linear", (0.45, 0.55), 0.5),
    )
    table = Table("table1", "", "", SMALL, (), "cpu", results)
    first, *rest = findings(table)
    assert first.verdict == "In part reproduced"
    text = str(first)
    assert "In 1 of the paper's 2 settings (1 of 4 repetitions)" in text
    assert "Not with latent 2." in text
    assert "In the paper: 2 of 2" in text
    # (0.7 - 0.4) / (0.55 - 0.4) and (0.5 - 0.4) / (0.55 - 0.4)
    assert "1.33 in the median, 0.67 to 2." in text
    assert all(finding.verdict == "Not measured" for finding in rest)  # nothing was stitched


def test_the_page_is_written_from_the_tables(tmp_path, capsys):
    made_up = good_tables()
    for name in CLAIMS:
        table = made_up.get(name) or fake_table(name, [({"latent": 2}, "linear", [0.5])], SMALL)
        table.save(tmp_path / f"{name}.json")
    assert page.main([str(tmp_path), str(tmp_path / "page.md")]) == 0
    text = (tmp_path / "page.md").read_text()
    for name in CLAIMS:
        assert f"(reproduction/{name}.png)" in text
    assert "conv → mlp: no map | 1 | at least 0.9 | holds" in text
    (tmp_path / "table2.json").unlink()
    assert page.main([str(tmp_path), str(tmp_path / "other.md")]) == 1
    assert "table2.json" in capsys.readouterr().err
    assert not (tmp_path / "other.md").exists()


def test_a_damaged_entry_is_told_of_by_the_run(tmp_path, small):
    (table,) = run(tmp_path)
    for entry in (tmp_path / "cache").iterdir():
        entry.write_bytes(b"")
    forget()
    with pytest.warns(CacheWarning, match="made anew"):
        (again,) = run(tmp_path)
    assert [one.errors for one in again.results] == [one.errors for one in table.results]
    assert all(entry.stat().st_size for entry in (tmp_path / "cache").iterdir())


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_no_two_measures_or_networks_have_one_entry(preset):
    plans = [plan(preset) for plan in TABLES.values()]
    measures = {measure for plan in plans for cell in plan.cells for measure in cell.measures}
    every = {*measures, *(spec for stage in needed(plans) for spec in stage)}
    assert len({key(one, "the same images") for one in every}) == len(every)


def test_an_error_that_is_not_finite_is_a_failure_that_names_its_cell(tmp_path, small, monkeypatch):
    monkeypatch.setattr(Mapped, "__call__", lambda self, lab: float("inf"))
    (table,) = run(tmp_path)
    linear = table.cell("linear", latent=3)
    assert not linear.errors
    assert len(linear.failures) == SMALL.seeds * SMALL.draws
    text = (tmp_path / "out" / "table1.md").read_text()
    assert "- linear (latent 3): the error of the decoded images became inf" in text
    assert Table.load(tmp_path / "out" / "table1.json").cell("linear", latent=3) == linear


def test_the_cuts_tell_of_a_single_seed(tmp_path, small):
    (two,) = run(tmp_path)
    (one,) = run(tmp_path, seeds=1)
    assert (one.preset.seeds, two.preset.seeds) == (1, 2)
    assert "one seed" in one.preset.cuts
    assert "one seed" not in two.preset.cuts


def test_a_cache_that_cannot_be_is_refused_before_anything_is_trained(tmp_path, small, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    done = counted(monkeypatch)
    with pytest.raises(FileExistsError, match="cache"):
        run(tmp_path)
    assert not done


def test_several_processes_train_measure_and_tell(tmp_path, monkeypatch):
    # Processes of their own do not see what is patched here: they read files.
    whole = made()
    parts = ((whole.train.images, whole.train.labels), (whole.test.images, whole.test.labels))
    arrays = [array for part in parts for array in part]
    for (name, _), values in zip(FASHION_MNIST.files, arrays, strict=True):
        shape = np.array(values.shape, ">u4").tobytes()
        (tmp_path / name.removesuffix(".gz")).write_bytes(
            bytes([0, 0, 8, values.ndim]) + shape + values.tobytes()
        )
    monkeypatch.setenv("LATALIGN_DATA", str(tmp_path))
    get_reusable_executor().shutdown(wait=True)  # one that was started before knows nothing of the variable
    try:
        two = work.Place(str(tmp_path / "cache"), "cpu", jobs=2)
        # Of no epochs: once through the images, since there an epoch is of 60,000.
        conv, mlp = (replace(spec, epochs=0) for spec in (CONV, MLP))
        told = []
        ended = dict(work.trained([conv, mlp], two, lambda *event: told.append(event)))
        assert set(ended) == {conv, mlp}
        assert not any(outcome.failure for outcome in ended.values())
        assert {what for what, *_ in told} == {str(conv), str(mlp)}
        assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 2
        groups = [[Own(conv)], [Own(mlp)], [Mapped(conv, mlp, Anchors(50), "linear")]]
        found = dict(work.measured(groups, two, lambda *event: None))
        assert all(outcome.error and outcome.error > 0 for outcome in found.values())
        for entry in (tmp_path / "cache").glob("*.json"):
            entry.write_text("{")
        with pytest.warns(CacheWarning, match="made anew"):
            again = dict(work.measured(groups, two, lambda *event: None))
        assert {one: outcome.error for one, outcome in again.items()} == {
            one: outcome.error for one, outcome in found.items()
        }
    finally:
        get_reusable_executor().shutdown(wait=True)


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


REPRODUCTION = Path(__file__).parents[2] / "docs" / "reproduction"


def test_the_results_in_the_repository_show_what_they_must(capsys):
    assert acceptance.main([str(REPRODUCTION)]) == 0
    assert "preset full" in capsys.readouterr().out


def test_the_page_in_the_repository_is_that_of_its_results(tmp_path):
    assert page.main([str(REPRODUCTION), str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text() == REPRODUCTION.with_suffix(".md").read_text()
