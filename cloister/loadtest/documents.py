"""The pages of a load test: drawn once into a folder, and sent as copies that all differ."""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import orjson
from PIL import Image

from cloister import chat, corpus, datafiles, ocr
from cloister.config import Settings
from cloister.errors import LoadTestError
from cloister.files import write_atomically
from cloister.loadtest import unique
from cloister.loadtest.unique import Copies
from cloister.loadtest.workload import Codec, OutputLengths, PageSpec, Workload, pages
from cloister.rendering import Drawing

_INDEX = "pages.json"
_MARK = 'base64,"'
_WIDEST = 20_000  # pixels: a row has to fit in one stored block of a PNG


@dataclass(frozen=True)
class Question:
    """What is asked of every page: the model's name, prompt and sampling, as `invoke ocr` does.

    `lengths` are drawn for weights that are noise, and every answer is then made that long.
    """

    model: str
    prompt: str
    max_tokens: int
    temperature: float
    lengths: OutputLengths | None


def question(
    settings: Settings, lengths: OutputLengths, *, synthetic: bool, model: str | None = None
) -> Question:
    """Return what the settings ask of a page; `lengths` are drawn where the weights are noise."""
    return Question(
        model=model or settings.model.name,
        prompt=settings.ocr.prompt,
        max_tokens=settings.ocr.max_tokens,
        temperature=settings.ocr.temperature,
        lengths=lengths if synthetic else None,
    )


@dataclass(frozen=True)
class Sheet:
    """One drawn page; `truth` is None where nobody knows what it says."""

    file: str
    kind: str
    codec: Codec
    truth: str | None
    fields: Mapping[str, str]


def draw(
    workload: Workload, seed: int, folder: Path, drawn: Callable[[], None] = lambda: None
) -> None:
    """Draw a mix into a folder, calling `drawn` after each page."""
    sheets = []
    for number, spec in enumerate(pages(workload, seed)):
        document = corpus.generate(spec.kind, spec.seed)
        image = _finished(corpus.render(document.pdf, 0, spec.dpi), spec)
        sheet = Sheet(
            f"{number:04}.png", spec.kind, spec.codec, document.markdown, dict(document.fields)
        )
        _keep(folder, sheet, image)
        sheets.append(sheet)
        drawn()
    _index(folder, sheets)


def copy(
    paths: Sequence[str], codec: Codec, dpi: int, folder: Path, drawn: Callable[[], None]
) -> None:
    """Take the user's own documents; a text beside one of a single page is its truth.

    Raises LoadTestError for a page that cannot be read: it would be another load.
    """
    sheets = []
    for number, page in enumerate(ocr.pages(ocr.find(paths), Drawing(dpi=dpi))):
        if isinstance(page, ocr.Unreadable):
            raise LoadTestError(f"`{page.document.path}`: {page.reason}")
        image = Image.open(io.BytesIO(page.drawn.image))
        if image.width > _WIDEST:
            raise LoadTestError(f"`{page.document.path}` is wider than {_WIDEST:,} pixels")
        truth = truth_beside(page.document.path) if page.count == 1 else None
        kind = page.document.path.suffix.lstrip(".").lower()
        sheet = Sheet(f"{number:04}.png", kind, codec, truth, {})
        _keep(folder, sheet, image if image.mode in {"L", "RGB"} else image.convert("RGB"))
        sheets.append(sheet)
        drawn()
    _index(folder, sheets)


class Letter:
    """A page that can be sent again and again, never twice the same."""

    def __init__(self, folder: Path, sheet: Sheet, question: Question) -> None:
        self.sheet = sheet
        with Image.open(folder / sheet.file) as image:
            image.load()
            self._copies: Copies = (unique.png if sheet.codec == "png" else unique.jpeg)(image)
        body = chat.body(
            b"",
            self._copies.mime,
            model=question.model,
            prompt=question.prompt,
            max_tokens=question.max_tokens,
            temperature=question.temperature,
        )
        body |= chat.STREAMED
        self._body = body
        self._lengths = question.lengths
        self._before, self._after = self._around(body)

    @property
    def blank(self) -> bool:
        """Whether there is nothing to read on it."""
        return self.sheet.truth is not None and not self.sheet.truth.strip()

    def body(self, number: int, random: Random) -> bytes:
        """Return the request with the page's copy of that number."""
        before, after = self._before, self._after
        if self._lengths is not None:
            length = self._lengths.draw(random)
            wanted = {"max_tokens": length, "min_tokens": length, "ignore_eos": True}
            before, after = self._around(self._body | wanted)
        return b"".join((before, self._copies.copy(number), after))

    @staticmethod
    def _around(body: Mapping[str, object]) -> tuple[bytes, bytes]:
        before, _, after = orjson.dumps(body).decode().partition(_MARK)
        return (before + _MARK[:-1]).encode(), ('"' + after).encode()


def letters(folder: Path, question: Question) -> tuple[Letter, ...]:
    """Return the pages of a folder, ready to be sent."""
    return tuple(Letter(folder, sheet, question) for sheet in sheets(folder))


def sheets(folder: Path) -> Iterator[Sheet]:
    """Yield what is known of the pages of a folder."""
    for entry in datafiles.load_json(folder / _INDEX):
        yield Sheet(**entry)


def _finished(image: Image.Image, spec: PageSpec) -> Image.Image:
    if spec.finish == "scan":
        return corpus.scan(image, spec.seed)
    if spec.finish == "photo":
        return corpus.photo(image, spec.seed)
    return image


def truth_beside(document: Path) -> str | None:
    """Return the text that lies beside a document as .txt or .md; None where there is none."""
    candidates = (document.with_suffix(suffix) for suffix in (".txt", ".md"))
    found = next((path for path in candidates if path.is_file()), None)
    return found.read_text(encoding="utf-8") if found else None


def _keep(folder: Path, sheet: Sheet, image: Image.Image) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    image.save(folder / sheet.file, "PNG", compress_level=1)


def _index(folder: Path, sheets: Sequence[Sheet]) -> None:
    write_atomically(folder / _INDEX, json.dumps([asdict(sheet) for sheet in sheets]))
