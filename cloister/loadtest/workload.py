"""Which pages a load test sends: a mix of documents, resolutions and codecs, from a YAML file."""

from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloister import config, datafiles
from cloister.corpus import KINDS
from cloister.datafiles import DataError
from cloister.errors import LoadTestError
from cloister.loadtest.result import Slo

Codec = Literal["png", "jpeg"]
Finish = Literal["clean", "scan", "photo"]
Share = Annotated[float, Field(gt=0)]
_Choice = TypeVar("_Choice")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OutputLengths(_Part):
    """Answers in tokens for weights that are noise: log-normal, cut at both ends."""

    median: int = Field(default=700, ge=1)
    sigma: float = Field(default=0.6, ge=0, le=3)
    least: int = Field(default=64, ge=1)
    most: int = Field(default=3000, ge=1)

    def draw(self, random: Random) -> int:
        """Return one length."""
        drawn = self.median * random.lognormvariate(0, self.sigma)
        return round(min(max(drawn, self.least), self.most))


class Workload(_Part):
    """A mix: each mapping gives shares, which need not sum to anything."""

    about: str
    documents: int = Field(ge=1, le=2000)
    kinds: Mapping[Literal[*KINDS], Share] = Field(min_length=1)  # type: ignore[valid-type]
    finishes: Mapping[Finish, Share] = Field(min_length=1)
    codecs: Mapping[Codec, Share] = Field(min_length=1)
    dpi: Mapping[Annotated[int, Field(ge=50, le=600)], Share] = Field(min_length=1)
    output_tokens: OutputLengths = OutputLengths()
    slo: Slo


class PageSpec(_Part):
    """One page of a mix, before it is drawn."""

    kind: str
    seed: int
    finish: Finish
    codec: Codec
    dpi: int


def folder() -> Path:
    """Return where the workloads lie."""
    return config.project_root() / "loadtests" / "workloads"


def load(name: str) -> Workload:
    """Return a workload by its name, or by the path of a YAML file; raises LoadTestError."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder() / f"{name}.yaml"
    try:
        return Workload.model_validate(datafiles.load_yaml(path))
    except FileNotFoundError as error:
        known = ", ".join(sorted(found.stem for found in folder().glob("*.yaml")))
        raise LoadTestError(f"no workload `{name}`", hint=f"one of {known}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise LoadTestError(f"`{path}`: `{place}`: {first['msg']}") from error
    except (OSError, DataError) as error:
        reason, hint = " ".join(str(error).split()), getattr(error, "hint", None)
        raise LoadTestError(f"`{path}` cannot be read: {reason}", hint=hint) from error


def pages(workload: Workload, seed: int) -> tuple[PageSpec, ...]:
    """Return the pages of a mix: the same seed gives the same ones; pure.

    Shares are kept as exactly as whole pages allow, so that small mixes are mixes too; what goes
    with what is drawn.
    """
    random = Random(f"workload/{seed}")  # noqa: S311  # repeatable on purpose
    columns = [
        _dealt(workload.documents, shares, random)
        for shares in (workload.kinds, workload.finishes, workload.codecs, workload.dpi)
    ]
    return tuple(
        PageSpec(kind=kind, seed=seed * 10_000 + number, finish=finish, codec=codec, dpi=dpi)
        for number, (kind, finish, codec, dpi) in enumerate(zip(*columns, strict=True))
    )


def _dealt(count: int, shares: Mapping[_Choice, float], random: Random) -> list[_Choice]:
    """Return choices in random order, as many of each as its share says, rounded to a whole."""
    total = sum(shares.values())
    ends = [round(count * end / total) for end in accumulate(shares.values())]
    starts = [0, *ends[:-1]]
    dealt = [
        choice
        for choice, start, end in zip(shares, starts, ends, strict=True)
        for _ in range(end - start)
    ]
    random.shuffle(dealt)
    return dealt
