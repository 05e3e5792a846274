"""What a page costs as a PNG or a JPEG, and how well Tesseract reads what is left of it.

Pages are generated: clean, as a scanner delivers them, and as a phone takes them. A second table
says what drawing a PDF's page costs. Times are of the processor, the least of some tries.
"""

import argparse
import base64
import io
import time
from collections.abc import Callable, Iterator
from statistics import mean
from typing import Any

import pypdfium2
from PIL import Image

from cloister import console, corpus, scoring
from cloister.engines.tesseract import bundled_tessdata, reader

_DPI = 200
_TRIES = 3
_WEAR: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "clean": lambda image, _: image,
    "scan": corpus.scan,
    "photo": corpus.photo,
}
_ENCODINGS: dict[str, dict[str, Any]] = {
    "PNG 1": {"format": "PNG", "compress_level": 1},
    "PNG 6": {"format": "PNG", "compress_level": 6},
    "JPEG 75": {"format": "JPEG", "quality": 75},
    "JPEG 85": {"format": "JPEG", "quality": 85},
    "JPEG 90": {"format": "JPEG", "quality": 90},
    "JPEG 95": {"format": "JPEG", "quality": 95},
}


def encodings(seeds: int) -> Iterator[tuple[object, ...]]:
    """Yield a row a kind of wear and encoding: means over all kinds of pages."""
    pages = [(kind, seed) for kind in corpus.KINDS for seed in range(seeds)]
    for wear, worn in _WEAR.items():
        documents = [corpus.generate(kind, seed) for kind, seed in pages]
        images = [worn(corpus.render(one.pdf, 0, _DPI), one.seed) for one in documents]
        pixels = mean(image.width * image.height for image in images)
        for name, options in _ENCODINGS.items():
            files = [_encoded(image, options) for image in images]
            size = mean(len(content) for content in files)
            rates = [
                scoring.cer(document.pages[0], _read(content, str(options["format"]).lower()))
                for document, content in zip(documents, files, strict=True)
            ]
            yield (
                *(wear, name, f"{size / 1000:.0f}", f"{size / pixels:.3f}"),
                f"{mean(_ms(_encoded, image, options) for image in images):.1f}",
                f"{mean(_ms(_decoded, content) for content in files):.1f}",
                f"{mean(rates):.4f}",
            )


def drawings() -> Iterator[tuple[object, ...]]:
    """Yield a row a way of drawing: milliseconds of an A4 page, means over all kinds of pages."""
    pages = [pypdfium2.PdfDocument(corpus.generate(kind, 0).pdf)[0] for kind in corpus.KINDS]
    ways: dict[str, Callable[[Any], Any]] = {
        "grey, from pdfium": lambda page: _drawn(page, _DPI, grayscale=True),
        "colour": lambda page: _drawn(page, _DPI, rev_byteorder=True),
        "colour, converted to grey": lambda page: _drawn(page, _DPI).convert("L"),
        "small and in colour": lambda page: _drawn(page, 25),
    }
    for name, way in ways.items():
        yield name, f"{mean(_ms(way, page) for page in pages):.1f}"


def _drawn(page: Any, dpi: int, **options: bool) -> Image.Image:
    image: Image.Image = page.render(scale=dpi / 72, **options).to_pil()
    return image


def _encoded(image: Image.Image, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    image.save(file, dpi=(_DPI, _DPI), **options)
    return file.getvalue()


def _decoded(content: bytes) -> None:
    Image.open(io.BytesIO(content)).load()


def _read(content: bytes, kind: str) -> str:
    url = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    found = reader.read(url, "eng", str(bundled_tessdata()), 100)
    return "" if isinstance(found, reader.Refusal) else "\n\n".join(found)


def _ms(work: Callable[..., object], *arguments: object) -> float:
    return min(_once(work, *arguments) for _ in range(_TRIES)) * 1000


def _once(work: Callable[..., object], *arguments: object) -> float:
    begun_s = time.process_time()
    work(*arguments)
    return time.process_time() - begun_s


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoding", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2, help="pages of each kind")
    chosen = parser.parse_args()
    console.table(("drawing", "ms"), list(drawings()))
    columns = ("page", "encoding", "kB", "bytes a pixel", "ms to encode", "ms to decode", "CER")
    console.table(columns, list(encodings(chosen.seeds)))


if __name__ == "__main__":
    main()
