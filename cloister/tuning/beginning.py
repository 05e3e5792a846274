"""What a tuning begins with: the machine, the knobs and what of them cannot help; and its plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloister import deployment, hardware, modelstore
from cloister.config import Settings
from cloister.config.keys import leaves
from cloister.engines import ENGINES
from cloister.engines.vllm import memory
from cloister.engines.vllm.memory import Need
from cloister.errors import TuningError
from cloister.hardware import Hardware
from cloister.loadtest.result import Slo
from cloister.loadtest.workload import Workload
from cloister.tuning import ceiling, knobs, pruning
from cloister.tuning.ceiling import Ceiling
from cloister.tuning.knobs import FLAG, Space, Value
from cloister.tuning.mix import pages
from cloister.tuning.pruning import Pruned
from cloister.tuning.shapes import SHAPES

_START_S = {"vllm-cuda": 180.0, "vllm-cpu": 60.0, "tesseract": 5.0}  # about; the first is measured
_WORST_S, _RUNGS = 30.0, 5
_LEVELS = (1, 8, 32, 64, 128, 256)


@dataclass(frozen=True)
class Wish:
    """What a person asks of a tuning.

    Another `table` of knobs, knobs that are turned `also` though they cost something, settings to
    `begin` with, `trials` instead of a search; and how many starts, and turns of each finalist.
    """

    table: Path | None = None
    also: tuple[str, ...] = ()
    begin: tuple[str, ...] = ()
    trials: tuple[str, ...] = ()
    starts: int = 6
    turns: int = 2


@dataclass(frozen=True)
class Plan:
    """What would be tried on what, how long it takes at most, and what the roofline allows.

    `ceilings` are by pages read at once, none where card or model are not known.
    """

    engine: str
    hardware: Hardware
    space: Space
    pruned: tuple[str, ...]
    first: Mapping[str, Value]
    starts: int
    turns: int
    start_s: float
    trial_s: float
    seconds: float
    ceilings: Mapping[int, Ceiling]


def space(
    settings: Settings, wish: Wish, there: Hardware, need: Need | None, cores: int | None = None
) -> Pruned:
    """Return the knobs that are to be turned on this hardware; raises TuningError.

    `cores` are those of the machine, None where they are not known.
    """
    table = knobs.load(settings.engine, wish.table)
    begin = dict(_parsed(text) for text in wish.begin)
    asked = (*wish.also, *(name for name in begin if _costly(table, name)))
    chosen = table.without_costs(asked).with_values(begin)
    for knob in chosen.knobs:
        if not knob.setting.startswith(FLAG) and knob.setting not in leaves():
            raise TuningError(f"`{knob.setting}` is no setting", hint="docs/configuration.md")
    return pruning.prune(chosen, there, cores, need)


def trials(wish: Wish, chosen: Space) -> tuple[dict[str, Value], ...]:
    """Return the configurations of `--trial`s, each given beside the first one."""
    return tuple(
        {**chosen.first, **dict(_parsed(part) for part in _parts(text))} for text in wish.trials
    )


def machine(settings: Settings) -> Hardware:
    """Return what the engine runs on; raises TuningError where it needs a card and has none."""
    there = hardware.of(settings.engine, settings.engines.gpus)
    if there is None:
        raise TuningError(
            f"`{settings.engine}` needs a GPU, and nvidia-smi finds none",
            hint="invoke tune.plan --card NAME --memory-mib N plans for another machine",
        )
    return there


def need(settings: Settings) -> Need | None:
    """Return what a replica takes of a card at least, None where that is not known."""
    folder = modelstore.folder(settings) if ENGINES[settings.engine].needs_gpu else None
    return memory.need(folder, settings.vllm.max_model_len) if folder else None


def plan(settings: Settings, wish: Wish, there: Hardware | None, mix: Workload) -> Plan:
    """Return what a tuning would do, without doing any of it; `there` is another machine."""
    settings = deployment.resolve(settings)
    on = there or machine(settings)
    pruned = space(settings, wish, on, need(settings), None if there else hardware.cores())
    seconds = _START_S[settings.engine] + _WORST_S + _RUNGS * 30.0
    given = trials(wish, pruned.space)
    count = len(given) or wish.starts
    final_s = _START_S[settings.engine] + 3 * 30.0
    return Plan(
        engine=settings.engine,
        hardware=on,
        space=pruned.space,
        pruned=pruned.lines,
        first=given[0] if given else pruned.space.first,
        starts=count,
        turns=wish.turns,
        start_s=_START_S[settings.engine],
        trial_s=seconds,
        seconds=count * seconds + wish.turns * 2 * final_s,
        ceilings=_ceilings(settings, on, mix),
    )


def slo(mix: Workload, wanted: Sequence[str]) -> Slo:
    """Return a workload's SLO with the given KEY=VALUE changed; raises TuningError."""
    changes = {}
    for text in wanted:
        key, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if key not in Slo.model_fields or not 0 < number < 1e9:  # noqa: PLR2004
            known = ", ".join(Slo.model_fields)
            raise TuningError(f"`--slo {text}` is none of {known}", hint="--slo e2e_p95_s=30")
        changes[key] = number
    return mix.slo.model_copy(update=changes)


def _ceilings(settings: Settings, on: Hardware, mix: Workload) -> dict[int, Ceiling]:
    folder, card = modelstore.folder(settings), ceiling.card(on.name)
    shape = ceiling.of_folder(folder) if folder else SHAPES.get(settings.model.name)
    if shape is None or card is None:
        return {}
    page = pages("", mix, settings.vllm.max_pixels)
    return {
        level: ceiling.ceiling(
            shape,
            card,
            at_once=level,
            prompt_tokens=page.prompt_tokens,
            output_tokens=page.output_tokens,
        )
        for level in _LEVELS
    }


def _costly(table: Space, name: str) -> bool:
    return any(knob.setting == name and knob.costs for knob in table.knobs)


def _parts(text: str) -> list[str]:
    """Return the KEY=VALUE parts of a trial; a comma within a value is no separator."""
    parts = list[str]()
    for part in text.split(","):
        if "=" in part and not part.startswith(("{", '"', " ")):
            parts.append(part.strip())
        elif parts:
            parts[-1] += f",{part}"
    return parts


def _parsed(text: str) -> tuple[str, Value]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise TuningError(f"`{text}` is no KEY=VALUE", hint="such as vllm.max_num_seqs=64")
    return name, int(value) if value.isdecimal() else value
