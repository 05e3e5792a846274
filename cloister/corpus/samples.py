"""The committed samples: what they are and how to make them again."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cloister.corpus import encode, generate, render

_DPI = 200
# Six shades of grey instead of 256 nearly halve the files, and no reader minds.
_GREYS = [round(level / 51) * 51 for level in range(256)]


@dataclass(frozen=True)
class Sample:
    """A file under `samples/`, the document in it, and how many pages it has."""

    name: str
    kind: str
    seed: int
    pages: int = 1


SAMPLES = (
    Sample("letter.png", "letter", 2),
    Sample("invoice.png", "invoice", 7),
    Sample("article.png", "article", 0),
    Sample("two-pages.pdf", "article", 2, pages=2),
)


def sample_files() -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each sample and of the truth beside it."""
    for sample in SAMPLES:
        document = generate(sample.kind, sample.seed, sample.pages)
        if sample.name.endswith(".png"):
            yield sample.name, encode(render(document.pdf, 0, _DPI).point(_GREYS))
        else:
            yield sample.name, document.pdf
        yield f"{Path(sample.name).stem}.md", f"{document.markdown}\n".encode()


def write_samples(folder: Path) -> None:
    """Write every sample and its truth into `folder`, byte for byte as they are committed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in sample_files():
        (folder / name).write_bytes(content)
