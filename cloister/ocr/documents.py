"""Files, folders and patterns to page images, one at a time: nothing is held but the page."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pypdfium2
from PIL import Image, ImageSequence, UnidentifiedImageError

from cloister.errors import OcrError

SUFFIXES = (".pdf", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif")
_POINTS_PER_INCH = 72
_PASS_AS_IS = {"PNG", "JPEG", "MPO", "TIFF", "WEBP", "BMP", "GIF"}
_MIME = {"MPO": "image/jpeg"}  # a JPEG with previews, which is how the engines take it


@dataclass(frozen=True)
class Document:
    """One input file; `name` is its path below the folder that was asked for, for the output."""

    path: Path
    name: Path


@dataclass(frozen=True)
class Page:
    """One page image, encoded; `number` counts from 1 up to `count`."""

    document: Document
    number: int
    count: int
    image: bytes
    mime: str


@dataclass(frozen=True)
class Unreadable:
    """A page, or with `number` None a whole document, that cannot be turned into an image."""

    document: Document
    number: int | None
    reason: str


def find(arguments: Sequence[str]) -> tuple[Document, ...]:
    """Return the documents that files, folders and patterns name, each once, in order.

    Folders are searched to the bottom for the known suffixes. Raises OcrError for an argument
    that names nothing.
    """
    found: dict[Path, Document] = {}
    for argument in arguments:
        for document in _expand(argument):
            found.setdefault(document.path.resolve(), document)
    return tuple(found.values())


def _expand(argument: str) -> list[Document]:
    path = Path(argument)
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES]
        if not files:
            raise OcrError(
                f"no document in `{argument}`", hint=f"known suffixes: {' '.join(SUFFIXES)}"
            )
        return [Document(file, file.relative_to(path)) for file in files if file.is_file()]
    if path.exists():
        return [Document(path, Path(path.name))]
    if any(character in argument for character in "*?["):
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        matches = sorted(anchor.glob(str(path.relative_to(anchor))))
        documents = [document for match in matches for document in _expand(str(match))]
        if documents:
            return documents
        raise OcrError(f"nothing matches `{argument}`")
    raise OcrError(f"`{argument}` does not exist")


def count(documents: Sequence[Document]) -> int:
    """Return the number of pages of all documents; one that cannot be opened counts as one."""
    return sum(_count(document.path) for document in documents)


def _count(path: Path) -> int:
    try:
        if _is_pdf(path):
            with pypdfium2.PdfDocument(path) as pdf:
                return len(pdf)
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    except (OSError, pypdfium2.PdfiumError):
        return 1  # `pages` says what is wrong with it


def pages(documents: Sequence[Document], dpi: int) -> Iterator[Page | Unreadable]:
    """Yield every page of every document, or why there is none; `dpi` is for PDFs."""
    for document in documents:
        try:
            if _is_pdf(document.path):
                yield from _pdf_pages(document, dpi)
            else:
                yield from _image_pages(document)
        except (OSError, UnidentifiedImageError) as error:
            known = ", ".join(suffix.lstrip(".") for suffix in SUFFIXES)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else None
            yield Unreadable(document, None, reason or f"not a PDF or a known image ({known})")


def _is_pdf(path: Path) -> bool:
    with path.open("rb") as file:
        return b"%PDF-" in file.read(1024)


def _pdf_pages(document: Document, dpi: int) -> Iterator[Page | Unreadable]:
    try:
        pdf = pypdfium2.PdfDocument(document.path)
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        reason = "the PDF needs a password" if locked else f"a damaged PDF ({error})"
        yield Unreadable(document, None, reason)
        return
    with pdf:
        if len(pdf) == 0:
            yield Unreadable(document, None, "the PDF has no pages")
        for index in range(len(pdf)):
            try:
                # Closed at once: pdfium keeps every open page's images in memory.
                page = pdf[index]
                bitmap = page.render(scale=dpi / _POINTS_PER_INCH, may_draw_forms=True)
                image = bitmap.to_pil().convert("L")
                page.close()
            except (pypdfium2.PdfiumError, MemoryError, ValueError) as error:
                yield Unreadable(document, index + 1, f"the page cannot be rendered ({error})")
                continue
            yield Page(document, index + 1, len(pdf), _png(image, dpi), "image/png")


def _image_pages(document: Document) -> Iterator[Page | Unreadable]:
    Image.MAX_IMAGE_PIXELS = None  # nothing is decoded here that the service would not refuse
    with Image.open(document.path) as image:
        frames = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
        if frames == 1 and image.format in _PASS_AS_IS:
            mime = _MIME.get(image.format, Image.MIME[image.format])
            yield Page(document, 1, 1, document.path.read_bytes(), mime)
            return
        for number, frame in enumerate(ImageSequence.Iterator(image), start=1):
            dpi = round(float(image.info.get("dpi", (0,))[0]))
            yield Page(document, number, frames, _png(frame, dpi), "image/png")


def _png(image: Image.Image, dpi: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1, **({"dpi": (dpi, dpi)} if dpi else {}))
    return file.getvalue()
