"""An engine's page of metrics as families, or as none: whatever it answers ends no reader.

The page comes from outside, and its parser has bugs and takes all that it is given. Whoever reads
an engine's numbers reads them here.
"""

import requests
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from cloister.bounded import MOST_METRICS_BYTES

# vLLM has some 400 series for each of its engines, and its longest line, with all of its cache's
# settings, has 2,000 characters.
MOST_LINES = 50_000
MOST_SERIES = 20_000
LONGEST_LINE = 8_192


def read(answer: requests.Response) -> list[Metric] | None:
    """Return the families of a page, None where it is an error or no page of metrics."""
    page = text(answer)
    return None if page is None else parse(page)


def text(answer: requests.Response) -> str | None:
    """Return what an answer says in UTF-8, whatever charset it names, None if it does not.

    None is an error, too, and more than MOST_METRICS_BYTES.
    """
    if not answer.ok or len(answer.content) > MOST_METRICS_BYTES:
        return None
    try:
        return answer.content.decode()
    except UnicodeDecodeError:
        return None  # the format is UTF-8


def parse(page: str) -> list[Metric] | None:
    """Return the families of a page, None for one that is outside the bounds or the format."""
    lines = page.split("\n", MOST_LINES)
    if len(lines) > MOST_LINES or max(map(len, lines)) > LONGEST_LINE or "\0" in page:
        return None
    try:
        families = list(text_string_to_metric_families(page))
    except (ValueError, LookupError):  # LookupError is a bug of the parser's
        return None
    return families if sum(len(family.samples) for family in families) <= MOST_SERIES else None
