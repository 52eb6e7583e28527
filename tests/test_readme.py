"""The examples of the README and of the documentation run as they are printed."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from latalign.cli import main
from problems import model_change

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(python|pycon|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS = {"torch": "torch", "parquet": "pyarrow"}
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def blocks(page):
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(text):
    """The calls of latalign in a console block, a line that ends in a backslash joined to the next."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ latalign ")]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with the files that the examples name: rows of two models, some of them with ids, and an index."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    old = rng.normal(size=(300, 12))
    new = old @ np.linalg.qr(rng.normal(size=(12, 12)))[0] + 1 + 0.1 * rng.normal(size=(300, 12))
    for name, rows in {
        "old": old,
        "new": new,
        "more-old": old[::-1],
        "test-old": old[:100],
        "test-new": new[:100],
        "small": new[:, :6] - new[:, 6:],
        "late": old @ rng.normal(size=(12, 9)),
    }.items():
        np.save(f"{name}.npy", rows.astype(np.float32))
    for name in ("old", "new"):
        Path(f"{name}-labels.txt").write_text("".join(f"class {k % 5}\n" for k in range(300)))
    changed = model_change(rng, asking_noise=0.8)
    for name, rows in changed.items():
        np.save(f"{name.replace('_', '-')}.npy", rows)
    return old, new


@pytest.fixture
def one_thread():
    """Networks this small train fastest on one thread, by far where another program has the other core."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_parquet(old, new):
    table = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for name, rows, order in (("old", old, slice(None)), ("new", new, slice(None, None, -1))):
        columns = {"id": np.arange(len(rows))[order], "embedding": list(rows[order])}
        parquet.write_table(table.table(columns), f"{name}.parquet")


def run_python(text, page, namespace):
    exec(compile(text, str(page), "exec"), namespace)


def run_doctest(text, page, namespace):
    test = doctest.DocTestParser().get_doctest(text, namespace, page.name, str(page), 0)
    report = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    runner.run(test, out=report.append, clear_globs=False)
    namespace.update(test.globs)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


def run_console(text, page, namespace):
    for command in commands(text):
        name, *arguments = shlex.split(command, comments=True)
        if arguments[:1] in (["demo"], ["reproduce"]):
            continue  # these train networks, and have tests of their own
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, f"{name} {arguments}: {result.output}"


RUN = {"python": run_python, "pycon": run_doctest, "console": run_console}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_examples_run(page, files, request):
    text = page.read_text(encoding="utf-8")
    for word, module in NEEDS.items():
        if re.search(rf"import {word}|\.{word}\b", text):
            pytest.importorskip(module)
    if "import torch" in text:
        request.getfixturevalue("one_thread")
    if ".parquet" in text:
        write_parquet(*files)
    namespace = {"__name__": "__main__"}
    for language, block in blocks(page):
        RUN[language](block, page, namespace)


def test_the_readme_shows_every_kind_of_example():
    found = blocks(ROOT / "README.md")
    assert {language for language, _ in found} == {"python", "console"}
    called = {shlex.split(line)[1] for language, text in found for line in commands(text)}
    assert called == set(main.commands)


def test_the_reference_names_every_command_in_order():
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert re.findall(r"command-help:: ([\w-]+)", text) == list(main.commands)
