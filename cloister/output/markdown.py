"""A document as Markdown: front matter, an anchor before each page, a note where one is missing."""

import re
from collections.abc import Sequence

import yaml

from cloister.output.pages import PageText, Source, notice, provenance

# What would be code, HTML, a link or an image in the reason of a failure.
_LIVE = str.maketrans({"`": "'", "<": "&lt;", "[": "\\[", "\\": "\\\\"})
_ANCHOR = re.compile(r"<(?=a\s[^<>]*\bid\s*=\s*[\"']?page-\d)", re.IGNORECASE)


def render(source: Source, pages: Sequence[PageText]) -> str:
    """Return a Markdown document with YAML front matter."""
    # A list among the values makes PyYAML write the mapping over several lines, and lists in one.
    front = yaml.safe_dump(
        provenance(source, pages),
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=float("inf"),
    )
    parts = [f"---\n{front}---"]
    for page in pages:
        # The page's own text must not be the target of another page's links.
        content = _ANCHOR.sub("&lt;", _page(page))
        parts += [f'<a id="page-{page.number}"></a>', content] if page.number else [content]
    return "\n\n".join(parts) + "\n"


def body(pages: Sequence[PageText]) -> str:
    """Return the pages one after another, with a note for each that is missing or incomplete."""
    return "\n\n".join(_page(page) for page in pages) + "\n"


def _page(page: PageText) -> str:
    parts = [] if page.text is None or not page.text.strip() else [page.text]
    if (said := notice(page)) is not None:
        parts.append(f"> **{said[0]}** {said[1].translate(_LIVE)}")
    return "\n\n".join(parts) or f"<!-- page {page.number}: no text on it -->"
