"""What limits a deployment, from what was seen at its best stage; pure."""

from collections.abc import Callable, Sequence
from statistics import fmean

from cloister.loadtest.result import Limit, Sample, SelfCheck, Stage, Verdict

_REFUSED = ("HTTP 503", "HTTP 429")
_REFUSED_SHARE = 0.01
_BUSY, _FULL = 0.85, 0.9
_CLIENT_BUSY = 0.8
_LATE_S = 0.010
_GATEWAY_SHARE = 0.5


def verdict(
    stage: Stage | None, samples: Sequence[Sample], check: SelfCheck | None, cores: int
) -> Verdict:
    """Return what limits the service at a stage, by the first rule that holds.

    `samples` are the whole test's; those of the stage's window count. In this order: a client that
    cannot keep up makes every other number worthless; refusals are the service's own word.
    """
    if stage is None or stage.sent == 0:
        return Verdict(limit="unknown", evidence=("no page was answered",))
    seen = [sample for sample in samples if stage.begin_s <= sample.at_s <= stage.end_s]
    for rule in (_client, _queue, _gateway, _memory, _host, _card, _seats, _light):
        found = rule(stage, seen, check, cores)
        if found is not None:
            return found
    return Verdict(limit="unknown", evidence=("no part was seen to be busy all the time",))


def _client(
    stage: Stage, seen: Sequence[Sample], check: SelfCheck | None, _cores: int
) -> Verdict | None:
    evidence = []
    busy = _mean(seen, lambda sample: sample.client_cpu)
    if check is not None and not check.passed:
        evidence.append(f"the self-check failed: {check.why}")
    if busy is not None and busy > _CLIENT_BUSY:
        evidence.append(f"its busiest process used {busy:.0%} of a core")
    if stage.lateness_s is not None and stage.lateness_s.p95 > _LATE_S:
        evidence.append(f"p95 of pages were sent {stage.lateness_s.p95 * 1000:.0f} ms late")
    return _found("client", evidence)


def _queue(
    stage: Stage, _seen: Sequence[Sample], _check: SelfCheck | None, _cores: int
) -> Verdict | None:
    refused = sum(stage.faults.get(fault, 0) for fault in _REFUSED)
    if refused <= _REFUSED_SHARE * stage.sent:
        return None
    return _found("queue limit", [f"{refused} of {stage.sent} pages were refused (503 or 429)"])


def _gateway(
    _stage: Stage, seen: Sequence[Sample], _check: SelfCheck | None, cores: int
) -> Verdict | None:
    used = _mean(seen, lambda sample: sample.gateway_cpu)
    if used is None or used < _GATEWAY_SHARE * cores:
        return None
    return _found("gateway", [f"nginx used {used:.1f} of {cores} cores"])


def _memory(
    _stage: Stage, seen: Sequence[Sample], _check: SelfCheck | None, _cores: int
) -> Verdict | None:
    use = _mean(seen, lambda sample: sample.kv_use)
    moved = _grown(seen, lambda sample: sample.preemptions)
    if use is None or use < _FULL or not moved:
        return None
    said = [f"the KV cache was {use:.0%} full", f"{moved:.0f} pages were preempted"]
    return _found("KV memory", said)


def _host(
    _stage: Stage, seen: Sequence[Sample], _check: SelfCheck | None, cores: int
) -> Verdict | None:
    used = _mean(seen, lambda sample: sample.host_cpu)
    busy = _mean(seen, lambda sample: sample.gpu_busy)
    if used is None or used < _BUSY or (busy is not None and busy >= _BUSY):
        return None
    card = "there is no card" if busy is None else f"the cards were {busy:.0%} busy"
    return _found("host CPU", [f"the machine's {cores} cores were {used:.0%} busy", card])


def _card(
    _stage: Stage, seen: Sequence[Sample], _check: SelfCheck | None, _cores: int
) -> Verdict | None:
    busy = _mean(seen, lambda sample: sample.gpu_busy)
    prefill = _grown(seen, lambda sample: sample.prefill_s)
    decode = _grown(seen, lambda sample: sample.decode_s)
    if busy is None or busy < _BUSY:
        return None
    said = [f"the cards were {busy:.0%} busy"]
    if not prefill or not decode:
        return _found("decode", [*said, "the engine does not tell prefill from decode"])
    share = prefill / (prefill + decode)
    said.append(f"pages spent {share:.0%} of their time on the engine in vision and prefill")
    return _found("prefill" if share > 0.5 else "decode", said)  # noqa: PLR2004


def _seats(
    _stage: Stage, seen: Sequence[Sample], _check: SelfCheck | None, _cores: int
) -> Verdict | None:
    waiting = _mean(seen, lambda sample: sample.waiting)
    running = _mean(seen, lambda sample: sample.running)
    if waiting is None or waiting < 1:
        return None
    said = [f"{waiting:.1f} pages waited for a seat while {running or 0:.1f} were read"]
    use = _mean(seen, lambda sample: sample.kv_use)
    if use is not None:
        said.append(f"the KV cache was {use:.0%} full")
    return _found("queue limit", said)


def _light(
    stage: Stage, seen: Sequence[Sample], _check: SelfCheck | None, _cores: int
) -> Verdict | None:
    if stage.kind == "closed":
        return None
    waiting = _mean(seen, lambda sample: sample.waiting)
    return _found("nothing", [f"all pages were read, {waiting or 0:.1f} waited on average"])


def _found(limit: Limit, evidence: Sequence[str]) -> Verdict | None:
    return Verdict(limit=limit, evidence=tuple(evidence)) if evidence else None


def _mean(seen: Sequence[Sample], of: Callable[[Sample], float | None]) -> float | None:
    values = [value for sample in seen if (value := of(sample)) is not None]
    return fmean(values) if values else None


def _grown(seen: Sequence[Sample], of: Callable[[Sample], float | None]) -> float | None:
    values = [value for sample in seen if (value := of(sample)) is not None]
    return values[-1] - values[0] if values else None
