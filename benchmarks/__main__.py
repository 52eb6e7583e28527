"""``python -m benchmarks [--only NAME] [--rounds N] [--json FILE]``: one line a figure."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from threadpoolctl import threadpool_limits

from benchmarks import applying, doubt, fitting, gpu, selection, streaming
from benchmarks.harness import Figure

SUITES = {
    function.__name__: function
    for function in (
        fitting.affine,
        fitting.memory,
        fitting.safeguard,
        fitting.alphas,
        fitting.rigid,
        fitting.many_rows,
        applying.apply,
        streaming.fit_from_disk,
        streaming.parquet,
        streaming.fixed_cost,
        streaming.linear_cost,
        selection.selection,
        doubt.doubt,
        gpu.gpu,
    )
}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return 1 where a figure falls short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=SUITES, action="append", help="measure this suite only")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds of each comparison")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    given = parser.parse_args(arguments)
    figures: list[Figure] = []
    with threadpool_limits(1):  # what is compared is work, not how it is spread
        for name in given.only or SUITES:
            for figure in SUITES[name](given.rounds):
                print(figure, flush=True)
                figures.append(figure)
    if given.json:
        given.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")
    short = sum(not figure.met for figure in figures)
    print(f"{len(figures)} figures, {short} short")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
