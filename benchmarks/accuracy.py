"""Error rates of documents with known text, read by the service that is up.

Either a folder, whose documents have their truth beside them with the suffix .txt or .md, or
generated pages. `raw` folds white space only, `text` also drops Markdown and HTML.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from cloister import console, corpus, ocr, scoring
from cloister.loadtest.documents import truth_beside


@dataclass(frozen=True)
class Score:
    """One document's rates."""

    name: str
    raw: float
    text: float
    markdown: str


def read(paths: Sequence[str]) -> Iterator[Score]:
    """Read the documents that have a truth beside them, and compare."""
    known = {item: truth_beside(item.path) for item in ocr.find(paths)}
    truths = {str(item.path): truth for item, truth in known.items() if truth is not None}
    for document in ocr.Client().documents(*truths):
        truth = truths[document.document]
        yield Score(
            Path(document.document).name,
            scoring.raw_cer(truth, document.markdown),
            scoring.cer(truth, document.markdown),
            document.markdown,
        )


def generated(seeds: int) -> Iterator[tuple[object, ...]]:
    """Yield one row a kind: medians of the rates, means of the recalls."""
    for kind in corpus.KINDS:
        documents = {f"{seed}.pdf": corpus.generate(kind, seed) for seed in range(seeds)}
        with tempfile.TemporaryDirectory() as folder:
            for name, document in documents.items():
                (Path(folder) / name).write_bytes(document.pdf)
                truth = (Path(folder) / name).with_suffix(".md")
                truth.write_text(document.markdown, encoding="utf-8")
            scores = list(read([folder]))
        fields = [scoring.field_recall(documents[s.name].fields, s.markdown) for s in scores]
        cells = [
            scoring.table_cell_recall(documents[score.name].markdown, score.markdown)
            for score in scores
            if "<table" in documents[score.name].markdown
        ]
        rate = f"{median(score.text for score in scores):.4f}"
        yield kind, rate, f"{mean(fields):.3f}", f"{mean(cells):.3f}" if cells else None


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="nox -s bench-accuracy --", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("folder", nargs="?", help="documents with their truth beside them")
    what.add_argument("--generated", type=int, metavar="N", help="N generated pages of each kind")
    arguments = parser.parse_args()
    if arguments.folder:
        rows = [(s.name, f"{s.raw:.4f}", f"{s.text:.4f}") for s in read([arguments.folder])]
        console.table(("document", "CER raw", "CER text"), rows)
    else:
        columns = ("kind", "CER text, median", "fields found", "cells found")
        console.table(columns, list(generated(arguments.generated)))


if __name__ == "__main__":
    main()
