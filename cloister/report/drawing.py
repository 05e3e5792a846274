"""How a report's charts look, and how they become SVG."""

import io
import re
import warnings
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

# Okabe and Ito's colours, which everyone can tell apart; dashes and marks do so in grey print.
BLUE, RED, GREEN, GOLD, GREY, INK = (
    *("#0072B2", "#D55E00", "#00795A", "#B58900"),
    *("#8A9099", "#22262B"),
)
WIDE, HALF = 10.0, 4.9  # inches: the text is as large as the page's where a chart is that wide
STYLE: Any = {  # matplotlib's own type lists every name there is
    "font.family": "DejaVu Sans",  # matplotlib's own, so that every machine sets the same page
    "font.size": 9,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": "#4A5058",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E7EB",
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "#4A5058",
    "ytick.labelcolor": "#4A5058",
    "legend.frameon": False,
    "hatch.color": "#A9AFB8",
    "hatch.linewidth": 0.7,
    "lines.linewidth": 1.7,
    "svg.fonttype": "none",
    "figure.constrained_layout.use": True,
}


def svg(figure: Figure, name: str, title: str, description: str) -> str:
    """Return a figure as it stands in HTML: the same figure gives the same text."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        # The reader's fonts write the text, and may well have what matplotlib's own has not.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, format="svg", metadata=nothing)
    text = file.getvalue()
    text = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # nothing refers to them, and charts share them
    body = text[text.index(">", text.index("<svg")) + 1 :]
    width, height = (72 * inches for inches in figure.get_size_inches())
    named = f'role="img" aria-labelledby="{name}-title {name}-about"'
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" {named}>\n'
        f'<title id="{name}-title">{escape(title)}</title>\n'
        f'<desc id="{name}-about">{escape(description)}</desc>{body}'
    )
