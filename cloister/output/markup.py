"""Markdown of unknown origin to HTML that shows all of its text and can do nothing."""

import html
import re

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from cloister.cleaning import Cleaned, clean_characters
from cloister.output import tags
from cloister.output.blocks import CODE_SPAN, FENCE, HTML_TABLE, TAGS

_ALLOWED = (
    "a|b|blockquote|br|caption|cite|code|col|colgroup|dd|del|div|dl|dt|em|figcaption|figure|"
    "h1|h2|h3|h4|h5|h6|hr|i|ins|kbd|li|mark|ol|p|pre|q|s|small|span|strong|sub|sup|"
    "table|tbody|td|tfoot|th|thead|tr|u|ul"
)
_CLEANER = nh3.Cleaner(
    tags=set(_ALLOWED.split("|")),
    clean_content_tags=frozenset(),
    attributes={
        "*": set(),
        "a": {"href"},
        "ol": {"start"},
        "td": {"colspan", "rowspan", "style"},
        "th": {"colspan", "rowspan", "style"},
    },
    filter_style_properties={"text-align"},
    allowed_classes={"span": set(TAGS.split("|"))},
    url_schemes={"http", "https", "mailto"},
    url_relative="deny",
    link_rel="noopener noreferrer nofollow",
)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
# A browser would take any other tag out of the text, and some with all that follows: they stay
# visible instead. An image has no text of its own.
_OTHER_TAG = re.compile(rf"<(?!/?(?:{_ALLOWED}|img)(?![\w-]))", re.IGNORECASE)
_TABLE_OR_CODE = re.compile(
    rf"(?P<code>{FENCE}|{CODE_SPAN})|{HTML_TABLE}", re.DOTALL | re.MULTILINE | re.IGNORECASE
)
_BLANK_LINES = re.compile(r"\n\s*\n")
# Bounded, or a page of nothing but unclosed formulas would take minutes.
_INLINE_MATH = re.compile(
    r"\\\(.{1,2000}?\\\)|\\\[.{1,2000}?\\\]|\$\$.{1,2000}?\$\$"
    r"|\$(?=\S)[^$\n]{0,2000}?(?<=[^\s\\])\$(?!\d)",
    re.DOTALL,
)
_MATH_ENDS = {"$$": "$$", "\\[": "\\]"}


def to_html(markdown: str) -> Cleaned:
    """Return the HTML of a page: tags as spans, LaTeX as text, links to the web and to mail only.

    What is not on the list of allowed elements is shown as the text that it is; attributes go.
    """
    rendered = _PARSER.render(_TABLE_OR_CODE.sub(_own_block, tags.to_spans(markdown)))
    # A character reference of the page, such as `&#27;`, has become the character.
    return clean_characters(_CLEANER.clean(_OTHER_TAG.sub("&lt;", _COMMENT.sub("", rendered))))


def _own_block(piece: re.Match[str]) -> str:
    """Part a table from the text around it, and keep it together: a blank line would end it."""
    if piece["code"] is not None:
        return piece[0]
    return f"\n\n{_BLANK_LINES.sub(chr(10), piece[0])}\n\n"


def _inline_math(state: StateInline, silent: bool) -> bool:  # noqa: FBT001
    if state.src[state.pos] not in "$\\":
        return False
    found = _INLINE_MATH.match(state.src, state.pos, state.posMax)
    if found is None:
        return False
    if not silent:
        # A token of its own: plain text would be looked through for emphasis and line breaks.
        state.push("math", "", 0).content = found[0]
    state.pos = found.end()
    return True


def _block_math(state: StateBlock, start: int, end: int, silent: bool) -> bool:  # noqa: FBT001
    first = _source_line(state, start)
    if first[:2] not in _MATH_ENDS or state.is_code_block(start):
        return False
    closing = _MATH_ENDS[first[:2]]
    for line in range(start, end):
        text = first[2:] if line == start else _source_line(state, line)
        if text.rstrip().endswith(closing):
            break
    else:
        return False
    if not silent:
        token = state.push("math_block", "", 0)
        token.content = "\n".join(_source_line(state, at) for at in range(start, line + 1))
        state.line = line + 1
    return True


def _source_line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


def _math(_: RendererHTML, tokens: list[Token], at: int, *__: object) -> str:
    return html.escape(tokens[at].content, quote=False)


def _math_block(_: RendererHTML, tokens: list[Token], at: int, *__: object) -> str:
    return f"<p>{html.escape(tokens[at].content, quote=False)}</p>\n"


def _image(_: RendererHTML, tokens: list[Token], at: int, *__: object) -> str:
    return f"<em>[image: {html.escape(tokens[at].content, quote=False)}]</em>"


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    # A line such as `[1]: Smith` is a footnote on a page; the rule would make it vanish.
    parser.disable("reference")
    parser.inline.ruler.before("escape", "math", _inline_math)
    parser.block.ruler.before(
        "fence", "math_block", _block_math, {"alt": ["paragraph", "blockquote", "list"]}
    )
    parser.add_render_rule("math", _math)
    parser.add_render_rule("math_block", _math_block)
    parser.add_render_rule("image", _image)
    return parser


_PARSER = _parser()
