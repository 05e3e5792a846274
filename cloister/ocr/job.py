"""One page on its way: what was tried, what came of it."""

import time
from dataclasses import asdict, dataclass, field

from cloister.cleaning import Cleaned, on_one_line
from cloister.ocr import ladder
from cloister.ocr.asking import Outcome
from cloister.ocr.documents import Entry
from cloister.ocr.judging import Fault
from cloister.ocr.ladder import Step
from cloister.ocr.results import PageResult
from cloister.rendering import Drawing, Drawn


@dataclass
class Job:
    """A page that is drawn, sent and judged; times are seconds of the reader's clock.

    `tried` are the steps so far, the last one of which is under way, `texts` the pieces of it that
    were read, `fault` what was wrong with the one before, and `piece_fault` with a piece. `kept` is
    the best of what was not good. `strikes` are the answers that broke off while other pages were
    read, `refusals` the times in a row that it was not taken. `heard_s`
    is when it was sent, or last heard of. `followers` have the same image.
    """

    entry: Entry
    number: int
    tried: list[Step] = field(default_factory=lambda: [ladder.FIRST])
    texts: list[Cleaned] = field(default_factory=list)
    first: Drawn | None = None
    drawn: Drawn | None = None
    last: Outcome | None = None
    fault: Fault | None = None
    piece_fault: Fault | None = None
    kept: Cleaned | None = None
    requests: int = 0
    tokens: int = 0
    useful: int = 0
    strikes: int = 0
    refusals: int = 0
    sent_s: float = 0.0
    heard_s: float = 0.0
    followers: list["Job"] = field(default_factory=list)

    @property
    def step(self) -> Step:
        """The step that is under way."""
        return self.tried[-1]

    @property
    def is_first(self) -> bool:
        """Whether it is asked for as every page is at first."""
        return len(self.tried) == 1 and not self.texts

    def drawing(self, first: Drawing) -> Drawing:
        """Return how its next piece is drawn; `first` is how pages are at first."""
        return Drawing(
            dpi=first.dpi,
            max_pixels=first.max_pixels,
            scale=self.step.scale,
            part=(len(self.texts), self.step.pieces),
            text_layer=first.text_layer and self.is_first,
        )

    def begin(self, step: Step) -> None:
        """Try it in another way."""
        self.tried.append(step)
        self.texts = []
        self.useful = 0
        self.piece_fault = None
        unlike_first = (step.scale, step.pieces) != (1.0, 1)
        self.drawn = None if unlike_first else self.first

    def take(self, text: Cleaned) -> bool:
        """Take the text of a piece; return whether it was the last one."""
        self.texts.append(text)
        self.drawn = None
        return len(self.texts) == self.step.pieces

    def hears(self) -> None:
        """Note that a piece of its answer came, in the thread that listens."""
        self.heard_s = time.monotonic()

    @property
    def text(self) -> Cleaned:
        """The texts of its pieces as one."""
        text = "\n\n".join(piece.text for piece in self.texts if piece.text)
        return Cleaned(text, sum(piece.removed for piece in self.texts))

    def note(self, outcome: Outcome) -> None:
        """Count a request."""
        self.last = outcome
        self.requests += 1
        self.tokens += outcome.tokens

    def facts(self, outcome: Outcome) -> dict[str, object]:
        """Return what the ledger keeps of a request."""
        return {
            "step": len(self.tried),
            **asdict(self.step),
            "piece": len(self.texts) + 1,
            "status": outcome.status,
            "finish_reason": outcome.finish_reason,
            "seconds": round(outcome.seconds, 3),
            "tokens": outcome.tokens,
            "looped": outcome.looped,
            "message": outcome.message or None,
            "engine": outcome.engine,
            "replica": outcome.replica,
            "request_id": outcome.request_id,
        }

    def result(
        self, text: Cleaned | None, error: str | None, *, reused: bool, engine: str | None
    ) -> PageResult:
        """Return what became of it; `engine` is who read it where its last request did not."""
        last = self.last
        return PageResult(
            document=self.entry.document.shown,
            page=self.number,
            text=None if text is None else text.text,
            error=error and on_one_line(error),
            finish_reason=last.finish_reason if last else None,
            engine=engine or (last.engine if last else None),
            completion_tokens=self.tokens,
            wasted_tokens=self.tokens - (self.useful if error is None else 0),
            seconds=round(last.seconds, 3) if last else 0.0,
            attempts=self.requests,
            sha256=self.first.sha256 if self.first else None,
            replica=last.replica if last else None,
            request_id=last.request_id if last else None,
            reused=reused,
            removed_characters=0 if text is None else text.removed,
            rebuilt=self.first is not None and self.first.rebuilt,
        )
