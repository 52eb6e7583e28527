"""The page of the reproduction: ``python -m latalign.experiments.page FOLDER PAGE``, from the JSON of its tables.

The verdicts are counted (`latalign.experiments.findings`). The reasons are written by hand and stand where
they belong to the table; who changes a protocol looks at them again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from latalign.experiments.acceptance import checks
from latalign.experiments.findings import CLAIMS, findings
from latalign.experiments.report import body, notes
from latalign.experiments.results import Table
from latalign.io.files import written_beside

_HEAD = """\
# Reproduction of the paper

Z. Lähner and M. Moeller, *On the Direct Alignment of Latent Spaces* (UniReps 2023), table by table. This page is
written by a program from the results in `docs/reproduction`; they come from

    latalign reproduce all --preset full -o docs/reproduction
    python -m latalign.experiments.page docs/reproduction docs/reproduction.md

The paper does not publish its networks. Ours reach its errors: two strided convolutions and a linear layer,
mirrored; and one hidden layer of 128 units (320 with codes of 100) on either side of the code. Adam, step size
0.001, batches of 64, five epochs of 60,000 images.

Where networks end in a sigmoid, as the paper's on MNIST seem to, all errors stand on a floor: normalized pixels
lie outside of [0, 1], where a sigmoid cannot go. The plateau of the paper's tables at 0.47 is that floor. We
tell the excess over it beside the error, and compare methods by it.
"""


def page(tables: Mapping[str, Table], reasons: Mapping[str, str]) -> str:
    """Return the page as Markdown, for the tables that are there."""
    lines = [_HEAD]
    for name, table in tables.items():
        lines += [f"## {table.title}", "", table.question, "", *notes(table), ""]
        lines += [*body(table, level=3), f"![{table.title}](reproduction/{name}.png)", ""]
        lines += [f"- {finding}" for finding in findings(table)]
        lines += ["", *([reasons[name], ""] if name in reasons else [])]
        figure = {"table5": "figure3", "table6": "figure4"}.get(name)
        lines += [f"![{figure}](reproduction/{figure}.png)", ""] if figure else []
    lines += ["## What must hold", "", *_checked(tables)]
    return "\n".join(lines).rstrip() + "\n"


def _checked(tables: Mapping[str, Table]) -> Iterator[str]:
    yield "`make acceptance` asserts these of the same results; medians over seeds and draws of the anchors."
    yield ""
    yield "| claim | value | limit | |"
    yield "| --- | --- | --- | --- |"
    for check in checks(tables):
        limits = [f"at least {check.low:g}"] if check.low is not None else []
        limits += [f"at most {check.high:g}"] if check.high is not None else []
        verdict = "holds" if check.holds else "**fails**"
        yield f"| {check.claim} | {check.value:.4g} | {' and '.join(limits)} | {verdict} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, and return 1 where a table is missing."""
    parser = argparse.ArgumentParser(prog="python -m latalign.experiments.page", description=__doc__)
    parser.add_argument("folder", type=Path, help="where latalign reproduce wrote its tables")
    parser.add_argument("page", type=Path, help="the Markdown file to write")
    given = parser.parse_args(arguments)
    try:
        tables = {name: Table.load(given.folder / f"{name}.json") for name in CLAIMS}
        text = page(tables, REASONS)
        with written_beside(given.page) as file:
            file.write(text.encode())
    except (OSError, ValueError, KeyError) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    return 0


REASONS: Mapping[str, str] = MappingProxyType({})
"""Why it came out like that, by the name of the table."""

if __name__ == "__main__":
    sys.exit(main())
