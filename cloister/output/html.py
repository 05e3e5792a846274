"""A document as one HTML page that loads nothing."""

from collections.abc import Sequence
from html import escape

from cloister.output.markup import to_html
from cloister.output.pages import PageText, Source, notice, provenance, removed_characters

_STYLE = """\
body { max-width: 50rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff;
  font: 1rem/1.5 Georgia, serif; overflow-wrap: break-word; }
section { margin: 2rem 0; padding-top: 1rem; border-top: 1px solid #bbb; overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border: 1px solid #999; padding: .25rem .5rem; text-align: left; vertical-align: top; }
pre { padding: .5rem; background: #f4f4f4; white-space: pre-wrap; }
header table { font: .8rem/1.4 sans-serif; color: #444; }
header td { overflow-wrap: anywhere; }
.failed { padding: .5rem 1rem; border-left: .3rem solid #b00; background: #fdeaea; }
.empty, .page_number, .watermark, .img, .signature { color: #666; }
.watermark { letter-spacing: .1em; }
.img, .signature { font-style: italic; }
@media print { body { max-width: none; margin: 0; } table, .failed { break-inside: avoid; } }
"""


def render(source: Source, pages: Sequence[PageText]) -> str:
    """Return a self-contained HTML page, each page of the document in a section of its own."""
    parts = [_section(page) for page in pages]
    removed = sum(count for _, count in parts) + sum(map(removed_characters, pages))
    told = provenance(source, pages) | ({"removed_characters": removed} if removed else {})
    facts = {name: escape(_value(fact)) for name, fact in told.items()}
    rows = "\n".join(f"<tr><th>{name}</th><td>{fact}</td></tr>" for name, fact in facts.items())
    sections = "\n".join(section for section, _ in parts)
    return f"""\
<!doctype html>
<html>
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{facts["source"]}</title>
<style>
{_STYLE}</style>
</head>
<body>
<header>
<table>
{rows}
</table>
</header>
{sections}
</body>
</html>
"""


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _section(page: PageText) -> tuple[str, int]:
    """Return a page, and how many characters were removed from it here."""
    written = to_html(page.text or "")
    parts = [written.text.strip()] if page.text is not None and page.text.strip() else []
    if (said := notice(page)) is not None:
        parts.append(f'<p class="failed"><strong>{said[0]}</strong> {escape(said[1])}</p>')
    anchor = f' id="page-{page.number}"' if page.number else ""
    content = "\n".join(parts) or f'<p class="empty">Page {page.number}: no text on it</p>'
    return f"<section{anchor}>\n{content}\n</section>", written.removed
