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


REASONS: Mapping[str, str] = MappingProxyType(
    {
        "table1": """\
Why: from thirty dimensions on our errors and the paper's are within 0.012 of each other for the decoder's
own codes, the linear map and stitching, and within 0.02 with ten, though our images are 5,000 others. Rigid
maps err less here than in the paper. The stitching MLPs are trained until they get no better on held-out
pairs, and then they use what a matrix cannot: they lead up to 50 dimensions. With 100 and 150 they fall
behind, which is the paper's picture too. With two dimensions the position of the origin counts: maps with a
translation do better than the paper's linear one.""",
        "table2": """\
Why: the paper does not say how relative codes are scaled before a decoder reads them. Plain distances all
lie far from zero, and a decoder hardly learns from them (in one trial its own error with 50 dimensions and
100 anchors was 0.533, against 0.486 with standardized distances and 0.479 in the paper). Standardized by
their own network, as here, they cross far better than the paper's in the decoder-only column (0.50 for 0.84
with 50 dimensions and 100 anchors) and about as in the paper's end2end column. So training the decoder only
is no worse here than training all. Standardized by the target's statistics they cross worse, in every
setting. Other choices of anchors gain 3 %, which three seeds do not tell from nothing.""",
        "table3": """\
Why: from ten dimensions on the linear map is within 0.02 of the paper's, and the rigid one errs less than
there. Stitching does not come out: trained until it gets no better on held-out anchors, it errs a little
more than a linear map with few anchors (above the floor, 1.15 times in the median with k = 4), not several
times as much. Stopped after 20 epochs, which are one to five steps each, it comes most of the way to the
paper's errors, in its order of k. So the paper's stitching networks seem to be undertrained.""",
        "table4": """\
Why: the paper's closest points end at errors of 0.94 to 1.06, whatever the method and the number of
dimensions. That is what no map at all gives (table 1), so they may have failed for another reason than
their principle. Here they fail in one case: a linear map with one-sided neighbors, where both sides have
other images or other architectures, collapses, as it rewards drawing rows together. Rigid maps do not
collapse. Where the two sides have the same images, in unknown order, closest points find the very partners
on MNIST from ten dimensions on, and end at exactly the error of all pairs. With mutual neighbors a linear
map is better than that of the class means even where no image is on both sides: alignment from labels alone
is nearer than the paper thought. With ten dimensions and ten classes the linear map of the means is at its
interpolation threshold; ridge is not.""",
        "table5": """\
Why: the networks' own errors are the paper's, and linear beats rigid in all its settings. Our rigid maps
err two to six and a half times less than the paper's, though. They depend on the scale of the spaces, which
nothing in training fixes: multiplying the source's codes by 3 takes rigid to 4.5 and 1.2 with 50 dimensions
and leaves similarity, linear and ridge as they are. Spaces of other scales than ours would explain the
paper's column. Decoders of relative codes do not collapse to 4.0 either way; they are near the rigid maps
if the codes are standardized by their own network. With as many anchors as dimensions, which the paper did
not try, the linear map explodes, and ridge does not.""",
        "table6": """\
Why: the networks' own errors are near the paper's, within 10 %. Across networks all depends on the
normalization: trained with one inside, nothing fixes the scale of the distances, and with the target's
statistics the other's codes are out of all range. Standardized by their own network they cross with two
thirds or less of the paper's error.""",
    }
)
"""Why it came out like that, by the name of the table."""

if __name__ == "__main__":
    sys.exit(main())
