"""What cannot start or cannot help, told with the arithmetic before anything is started; pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from cloister.engines.vllm.memory import Need
from cloister.hardware import Hardware
from cloister.tuning.knobs import Knob, Space, Value

_CORES = ("vllm.api_server_count", "tesseract.workers")  # processes that want a core each


@dataclass(frozen=True)
class Pruned:
    """The knobs with the values that are left, and a line for each value that is not."""

    space: Space
    lines: tuple[str, ...]


def prune(space: Space, hardware: Hardware, cores: int | None, need: Need | None) -> Pruned:
    """Return the values worth a start on this hardware; the first one of a knob always stays.

    `need` is what one replica takes of a card at least. What is None is not known.
    """
    knobs, lines = [], list[str]()
    for knob in space.knobs:
        left = []
        for value in knob.values:
            reason = _reason(knob, value, space, hardware, cores, need)
            if reason is None or value == knob.first:
                left.append(value)
            else:
                lines.append(f"{knob.setting}={value}: {reason}")
        knobs.append(knob.model_copy(update={"values": tuple(left)}))
    return Pruned(Space(tuple(knobs)), tuple(lines))


def fixed_percent(hardware: Hardware, need: Need | None) -> float:
    """Return the share of a card, in percent, that a replica takes beside its KV cache."""
    if need is None or not hardware.memory_mib:
        return 0.0
    return (need.weights_mib + need.overhead_mib) * 100 / hardware.memory_mib


def _reason(
    knob: Knob, value: Value, space: Space, hardware: Hardware, cores: int | None, need: Need | None
) -> str | None:
    if cores is not None and knob.setting in _CORES and int(value) > cores:
        return f"{value} processes share {cores} cores"
    if need is None or knob.role not in {"memory", "replicas"}:
        return None
    return next(_misfits(knob, int(value), space, hardware, need), None)


def _misfits(knob: Knob, value: int, space: Space, hardware: Hardware, need: Need) -> Iterator[str]:
    """Yield why not even the most favourable other knob lets this value start."""
    memory = space.of("memory")
    if memory is None or not memory.setting.endswith("_percent"):
        return
    percent = value if knob.role == "memory" else max(map(int, memory.values))
    replicas = value if knob.role == "replicas" else 1
    share = hardware.memory_mib * (percent // replicas) // 100
    if share < need.total_mib:
        part = f"{percent} / {replicas} %" if replicas > 1 else f"{percent} %"
        yield f"{part} of {hardware.memory_mib:,} MiB is {share:,} MiB, and a replica needs {need}"
