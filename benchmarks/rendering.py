"""Pages a second that the renderers draw, here and in another checkout: what the sandbox costs.

Both sides draw the same documents, in turn and in the same run; a document is counted and then
drawn page by page, as `invoke ocr` does. Name a checkout of the version to compare with:
`git worktree add /tmp/before TAG`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from cloister import console, corpus

_ROOT = Path(__file__).parents[1]
_SIDE = """
import json, sys, time
from pathlib import Path
from cloister.rendering import Drawing, Renderers
files = [Path(name) for name in sys.argv[2:]]
with Renderers(int(sys.argv[1])) as renderers:
    for file in files:
        renderers.count(file).result()
    for line in sys.stdin:
        begun_s = time.perf_counter()
        counts = [renderers.count(file) for file in files]
        pages = [
            renderers.draw(file, number, Drawing())
            for file, count in zip(files, counts)
            for number in range(1, count.result() + 1)
        ]
        for page in pages:
            page.result()
        print(json.dumps(len(pages) / (time.perf_counter() - begun_s)), flush=True)
"""


def _start(checkout: Path, workers: int, files: list[Path]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _SIDE, str(workers), *map(str, files)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _rate(side: "subprocess.Popen[str]") -> float:
    if side.stdin is None or side.stdout is None:
        raise RuntimeError("it was started without pipes")
    print("again", file=side.stdin, flush=True)
    return float(json.loads(side.stdout.readline()))


def _documents(folder: Path) -> dict[str, list[Path]]:
    """Write documents of one page, one of many, and images."""
    made = [corpus.generate(kind, 0) for kind in corpus.KINDS]
    single = [folder / f"{number}.pdf" for number in range(len(made))]
    for path, document in zip(single, made, strict=True):
        path.write_bytes(document.pdf)
    images = [path.with_suffix(".tiff") for path in single]
    for path, document in zip(images, made, strict=True):
        corpus.render(document.pdf, 0, 200).convert("CMYK").save(path)
    frames = [corpus.render(document.pdf, 0, 200) for document in made]
    long = folder / "long.pdf"
    frames[0].save(long, save_all=True, append_images=frames[1:])
    return {"PDFs of one page": single, "a long PDF": [long], "images that are converted": images}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rendering", description=__doc__)
    parser.add_argument("before", type=Path, help="a checkout to compare with")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--workers", type=int, default=1)
    chosen = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, files in _documents(Path(folder)).items():
            sides = [_start(path, chosen.workers, files) for path in (chosen.before, _ROOT)]
            pairs = [[_rate(side) for side in sides] for _ in range(chosen.rounds)]
            for side in sides:
                side.communicate()
            before, after = (statistics.median(rates) for rates in zip(*pairs, strict=True))
            ratio = statistics.median(after / before for before, after in pairs)
            rows.append((name, f"{before:.1f}", f"{after:.1f}", f"{ratio:.3f}"))
    console.table(("documents", "pages/s before", "pages/s after", "ratio"), rows)


if __name__ == "__main__":
    main()
