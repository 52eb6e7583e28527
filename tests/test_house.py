"""The rule of the house: imports point inward, and what is optional stays so."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import latalign

HOME = Path(latalign.__file__).parent

# From the innermost room outward. A module may import its own row and those above it.
ROOMS = [
    {
        "_version",
        "_validation",
        "_linalg",
        "_provisional",
        "_rowsum",
        "evidence",
        "uncertainty",
        "io",
        "engine",
    },
    {"moments", "maps", "anchors", "stitching", "relative", "local_map"},
    {
        "metrics",
        "least_squares",
        "paths",
        "units",
        "leave_one_out",
        "canonical",
        "on_disk",
        "loading",
        "searching",
        "pairing",
        "parts",
        "optimal_design",
        "power_law",
    },
    {"solve", "solvable"},
    {"methods"},
    {"select"},
    {"relation", "permutation", "robust"},
    {"fitting", "dealing"},
    {
        "_aligner",
        "estimators",
        "row_estimators",
        "equating",
        "evaluation",
        "comparison",
        "heldout",
        "bending",
        "querying",
        "closest_points",
        "curve_results",
        "curves",
        "bridging",
        "crowding",
        "model_change",
        "verdicts",
        "relevance",
        "agreement",
        "streamed",
        "one_pass",
        "unpaired",
        "many",
        "auditing",
        "shifting",
        "calibration",
    },
    {"torch", "experiments", "distributed", "cli"},
]
LEVEL = {name: level for level, room in enumerate(ROOMS) for name in room}
OPTIONAL = (
    "torch",
    "pyarrow",
    "h5py",
    "lance",
    "zarr",
    "duckdb",
    "upath",
    "fsspec",
    "distributed",
    "dask",
    "ray",
    "matplotlib",
    "pooch",
    "sklearn",
    "pandas",
    "rich",
    "click",
    # No extra, but slow to load for who does not use it.
    "scipy.special",
    "scipy.spatial",
    "scipy.stats",
)


def room_of(path):
    return path.relative_to(HOME).parts[0].removesuffix(".py")


def imported(path):
    """Return the rooms that a module imports when it runs, those for type checkers left out."""
    found = set()

    def visit(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.ImportFrom) and (child.module or "").split(".")[0] == "latalign":
                parts = child.module.split(".")
                found.update(parts[1:2] or [alias.name for alias in child.names])
            elif isinstance(child, ast.Import):
                found.update(a.name.split(".")[1] for a in child.names if a.name.startswith("latalign."))
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


@pytest.mark.parametrize("path", sorted(HOME.rglob("*.py")), ids=lambda p: str(p.relative_to(HOME)))
def test_imports_point_inward(path):
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    assert room in LEVEL, f"{room} has no place in the house: give it one in ROOMS"
    for other in imported(path) - {"__version__"}:
        assert other in LEVEL, f"{path.name} imports {other}"
        assert LEVEL[other] <= LEVEL[room], f"{room} reaches outward to {other}"


@pytest.mark.parametrize("path", sorted(HOME.rglob("*.py")), ids=lambda p: str(p.relative_to(HOME)))
def test_modules_stay_small(path):
    assert len(path.read_text().splitlines()) <= 420


@pytest.mark.parametrize(
    "statement", ["import latalign", "import latalign.cli", "import latalign; latalign.fit"]
)
def test_nothing_optional_is_loaded(statement):
    allowed = {"rich", "click"} if "cli" in statement else set()
    code = f"import sys; {statement}; print(*[m for m in {OPTIONAL!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(out.split()) <= allowed


def documented():
    """Return the names, with their module, of the entries of the API's page, and the page."""
    page = (Path(__file__).parents[1] / "docs" / "api" / "index.md").read_text(encoding="utf-8")
    entries, module = set(), ""
    for line in page.splitlines():
        if found := re.fullmatch(r"\.\. currentmodule:: (\S+)", line):
            module = found[1]
        elif re.fullmatch(r"   [\w.]+", line):
            entries.add(f"{module}.{line.strip()}")
    return entries, page


def test_every_public_name_is_documented():
    entries, page = documented()
    missing = {f"latalign.{name}" for name in latalign.__all__} - entries
    # Modules have a section, and what is neither function nor class is told of in a sentence.
    assert [name for name in missing if f"\n## {name}\n" not in page and f"`{name}`" not in page] == []
    public = {
        f"latalign.solve.{name}"
        for name, value in vars(latalign.solve).items()
        if getattr(value, "__module__", "") == "latalign.solve" and not name.startswith("_")
    }
    assert public <= entries
    assert {f"latalign.metrics.{name}" for name in latalign.metrics.__all__} <= entries


def test_every_public_name_of_the_torch_room_is_documented():
    torch_room = pytest.importorskip("latalign.torch")
    entries, _ = documented()
    for name in torch_room.__all__:
        assert entries & {f"latalign.torch.{name}", f"latalign.{name}"}, name


def test_every_public_name_is_there():
    for name in latalign.__all__:
        assert getattr(latalign, name) is not None
    assert set(latalign.__all__) <= set(dir(latalign))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = latalign.nothing
