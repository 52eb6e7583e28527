"""The plans of the tables, and what is said of their results."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pooch")
pytest.importorskip("matplotlib")

from latalign.experiments import acceptance, page, tables  # noqa: E402
from latalign.experiments.findings import CLAIMS, findings  # noqa: E402
from latalign.experiments.plan import PRESETS, Preset, needed, published  # noqa: E402
from latalign.experiments.results import Result, Table  # noqa: E402
from latalign.experiments.specs import Network  # noqa: E402
from latalign.experiments.tables import TABLES  # noqa: E402
from small_lab import SMALL  # noqa: E402

pytestmark = pytest.mark.usefixtures("tiny")


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


def test_every_table_has_its_file():
    assert all(getattr(tables, name).plan is TABLES[name] for name in TABLES)


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
        four += [(row, "means_icp_linear", [0.6]), (row, "affine, all pairs", [0.1])]
        four += [(row, f"labels ({images} images)", [0.11]) for images in ("same", "other")]
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


REPRODUCTION = Path(__file__).parents[2] / "docs" / "reproduction"


def test_the_results_in_the_repository_show_what_they_must(capsys):
    assert acceptance.main([str(REPRODUCTION)]) == 0
    assert "preset full" in capsys.readouterr().out


def test_the_page_in_the_repository_is_that_of_its_results(tmp_path):
    assert page.main([str(REPRODUCTION), str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text() == REPRODUCTION.with_suffix(".md").read_text()
