"""Character error rates of a folder's documents, read by the service that is up.

A document's truth lies beside it, with the suffix .txt or .md.
"""

import argparse
from pathlib import Path

from cloister import config, console, deployment, ocr, scoring


def main() -> None:
    """Read and score; `raw` folds white space only, `text` also drops Markdown."""
    parser = argparse.ArgumentParser(prog="nox -s bench-accuracy --", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    settings = deployment.required(config.load().settings)
    planned = deployment.plan(settings, deployment.cores())
    client = ocr.Client(
        planned.url, settings.ocr, model=settings.model.name, timeout_s=settings.gateway.timeout_s
    )
    found = [item for item in ocr.find([str(folder)]) if _truth(item.path)]
    results = client.read_all(ocr.pages(found, settings.ocr.dpi), planned.slots)
    rows = []
    for document in ocr.by_document(results):
        truth = (_truth(Path(document.document)) or Path()).read_text(encoding="utf-8")
        raw = scoring.raw_cer(truth, document.markdown)
        text = scoring.cer(truth, document.markdown)
        rows.append((document.document, len(document.pages), f"{raw:.4f}", f"{text:.4f}"))
    console.table(("document", "pages", "CER raw", "CER text"), rows)


def _truth(document: Path) -> Path | None:
    candidates = (document.with_suffix(suffix) for suffix in (".txt", ".md"))
    return next((path for path in candidates if path.is_file()), None)


if __name__ == "__main__":
    main()
