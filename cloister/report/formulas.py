"""Each metric with its formula: what other tools call by the same name may be something else."""

from cloister.loadtest.result import Report, Spread
from cloister.report.content import Table, best
from cloister.report.formats import NONE

_COLUMNS = ("metric", "formula", "n", "defined by")


def table(report: Report) -> Table:
    """Return the metrics, with the number of observations at the best load."""
    stage = best(report)
    quality = stage.quality if stage else None
    counts = {
        "TTFT": _n(stage.ttft_s if stage else None),
        "TPOT": _n(stage.tpot_s if stage else None),
        "E2E": _n(stage.e2e_s if stage else None),
        "good pages/s": str(stage.pages_per_s.n) if stage else NONE,
        "goodput/s": str(stage.goodput_per_s.n) if stage else NONE,
        "within the SLO": str(stage.attainment.n) if stage else NONE,
        "Little gap": str(stage.sent) if stage else NONE,
        "CER": str(quality.cer_median.n) if quality else NONE,
        "facts found": str(quality.field_recall.n) if quality else NONE,
    }
    rows = tuple((name, text, counts.get(name, ""), source) for name, text, source in _FORMULAS)
    return Table(_COLUMNS, rows)


def _n(spread: Spread | None) -> str:
    return NONE if spread is None else str(spread.n)


_FORMULAS = (
    (
        "TTFT",
        (
            "arrival of the first chunk with text that is not empty - the time the page was due "
            "(open loop) or sent (closed loop)"
        ),
        "as inference-perf; vLLM's benchmark takes an empty chunk too",
    ),
    (
        "E2E",
        "arrival of the last byte - the time the page was due (open loop) or sent (closed loop)",
        "AIPerf's effective latency, in open loop",
    ),
    (
        "TPOT",
        (
            "(E2E - TTFT) / (tokens - 1), for pages of two tokens or more; tokens as the engine "
            "tells them in usage"
        ),
        "as vLLM's benchmark; GuideLLM divides E2E by all tokens",
    ),
    (
        "good pages/s",
        (
            "good pages that ended in the window / its seconds; good: HTTP 200, complete, neither "
            "truncated nor empty nor repeating itself"
        ),
        "",
    ),
    (
        "goodput/s",
        "good pages/s of those pages whose TTFT and E2E are within the SLO's",
        "DistServe (Zhong et al. 2024)",
    ),
    (
        "within the SLO",
        (
            "pages within the SLO's times / pages sent; the SLO is met when Wilson's interval of "
            "the answered ones lies above 95 %, not met when below or when too many fail, else "
            "undecided"
        ),
        "Wilson 1927",
    ),
    (
        "Little gap",
        (
            "the difference of N and X R, over N: N pages in flight, X pages/s, R mean E2E; far "
            "from zero the records do not explain the load"
        ),
        "Little 1961",
    ),
    (
        "warm-up",
        (
            "MSER-5 over E2E, in the order pages ended: cut where the standard error of the rest "
            "is least; not steady when that is in the second half, or a trend is left (1 % level)"
        ),
        "White 1997; Mann 1945, Kendall 1975",
    ),
    (
        "± and intervals",
        (
            "95 %; of rates by the means of ten batches of time and Student's t, of shares by "
            "Wilson, of medians by order statistics, of means by the normal approximation"
        ),
        "Law and Kelton, section 9.5.3",
    ),
    (
        "percentiles",
        "exact, of every page, linear between neighbours",
        "Hyndman and Fan 1996, type 7",
    ),
    (
        "CER",
        "Levenshtein distance to the truth / its length, both without markup and in NFKC",
        "cloister/scoring.py",
    ),
    (
        "facts found",
        (
            "share of a page's names, sums and dates that occur in the answer as whole words; the "
            "mean over pages"
        ),
        "cloister/scoring.py",
    ),
)
