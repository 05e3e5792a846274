"""One configuration on this machine: brought up, looked at, taken down, and what was there before.

The trials run in the place of the service that is up, in its state folder and at its ports: a
card has room for one. What they change is in memory alone, so that `invoke up` always leads back to
what cloister.yaml says.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import requests

import cloister
from cloister import chat, config, deployment, gpus, metrics
from cloister.cleaning import on_one_line
from cloister.config import Settings
from cloister.deployment import Plan
from cloister.engines import ENGINES
from cloister.errors import CloisterError, DeploymentError, TuningError
from cloister.loadtest import target
from cloister.loadtest.target import Target
from cloister.runtimes import Runtime
from cloister.tuning import failure, knobs
from cloister.tuning.knobs import Configuration, Space
from cloister.tuning.trial import Failure

Progress = Callable[[str], None]
_ALL_LINES = 1_000_000
_ASK_S = 10.0
_CACHE = "vllm:cache_config_info"
_CONNECTIONS = 65535  # all clients have one address here, and none of them is to be refused


class FailedError(Exception):
    """A configuration that did not start, or did not last: `failure`, and what was said of it."""

    def __init__(self, failure: Failure, said: str) -> None:
        super().__init__(f"{failure}: {said}")
        self.failure = failure
        self.said = said


@dataclass(frozen=True)
class Bench:
    """The place where configurations are tried: the settings that they change, and the knobs."""

    base: Settings
    space: Space

    def settings(self, configuration: Configuration) -> Settings:
        """Return the settings of a configuration: on one card, and without the watchdog.

        It would bring back what a configuration broke. Raises ConfigError.
        """
        found = knobs.as_settings(configuration, self.base.vllm.flags)
        cuda = ENGINES[self.base.engine].needs_gpu
        replicas = self.space.number(configuration, "replicas") if cuda else 1
        own: dict[str, object] = {"replicas": replicas, "engines.weights": []}
        own |= {"healing.enabled": "false", "gateway.max_connections_per_address": _CONNECTIONS}
        if cuda:
            own["engines.gpus"] = [self._card()]
        return config.changed(self.base, [f"{k}={_text(v)}" for k, v in {**own, **found}.items()])

    def _card(self) -> int:
        cards = [card.index for card in gpus.cards()]
        chosen = [index for index in cards if index in (self.base.engines.gpus or cards)]
        if not chosen:
            raise TuningError("no card to tune", hint="nvidia-smi lists what there is")
        return chosen[0]


@dataclass(frozen=True)
class Server:
    """A configuration that is up; `pids` are its replicas' processes at the start."""

    settings: Settings
    target: Target
    pids: dict[str, int | None]
    written: dict[str, int]

    @property
    def slots(self) -> int:
        """The pages that all replicas read at once."""
        return _plan(self.settings).slots

    def require_alive(self, told: str = "") -> None:
        """Raise FailedError when a replica ended, or was started again, since the start."""
        running = deployment.runtime(self.settings)
        now = _pids(running, _plan(self.settings))
        if now != self.pids:
            log = _log(running, self.written)
            raise FailedError(*failure.classify(log, told, alive=False, loaded=True))

    def kv_tokens(self) -> float:
        """Return how many tokens the KV memory of all replicas holds, 0 when no engine tells."""
        with chat.session(self.target.enter) as session:
            answer = session.get(f"{self.target.enter.url}/metrics", timeout=_ASK_S)
        total = 0.0
        for family in metrics.read(answer) or ():
            for sample in family.samples:
                if sample.name == _CACHE:
                    labels = sample.labels
                    told = labels.get("kv_cache_size_tokens", "")
                    blocks = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
                    total += float(told) if _number(told) else _product(blocks)
        return total

    def version(self) -> str:
        """Return the engine's version by its own /version, Cloister's where it has none."""
        planned = _plan(self.settings)
        try:
            with deployment.runtime(self.settings).session() as session:
                answer = session.get(f"{planned.replicas[0].url}/version", timeout=_ASK_S)
            return (
                on_one_line(str(chat.values(answer)["version"])) if answer.ok else cloister.VERSION
            )
        except (requests.RequestException, ValueError, LookupError, TypeError):
            return cloister.VERSION


def start(settings: Settings, progress: Progress) -> Server:
    """Bring a configuration up from nothing; raises FailedError when its engine does not read.

    Raises another CloisterError for what would be in the way of any configuration.
    """
    deployment.down(settings)
    written = _written(deployment.runtime(settings), settings)
    try:
        deployment.up(settings, progress)
    except (CloisterError, requests.RequestException) as error:
        raise _failed(settings, error, written) from error
    found = target.up_here(settings)
    if found is None:
        raise DeploymentError("the service went down by itself", hint="invoke logs")
    running, planned = deployment.runtime(settings), _plan(settings)
    return Server(settings, found, _pids(running, planned), written)


def restore(base: Settings, previous: Settings | None, progress: Progress) -> None:
    """Bring back what was up before, or nothing; raises what `up` raises."""
    deployment.down(base)
    if previous is not None:
        progress("bringing back the service that was up before")
        deployment.up(previous, progress)


def up_before(settings: Settings) -> Settings | None:
    """Return the settings of the service that is up, None when none is."""
    recorded = deployment.recorded(settings)
    if recorded is None or not deployment.runtime(recorded.settings).states():
        return None
    return recorded.settings


def _failed(settings: Settings, error: Exception, written: dict[str, int]) -> Exception:
    """Return the failure of an engine that was started or has no room; other errors as they are."""
    recorded = deployment.recorded(settings)
    if recorded is None:
        found = failure.classify("", str(error), alive=False, loaded=False)
        return FailedError(*found) if found[0] == "OOM at start" else error
    running, planned = deployment.runtime(settings), deployment.of(recorded)
    states = {state.name: state for state in running.states()}
    engines = [states[name] for name in planned.names if name in states]
    if not engines:
        return error
    alive = all(state.pid and state.state in {"starting", "running"} for state in engines)
    told = "\n".join([str(error), *(state.detail for state in engines)])
    return FailedError(*failure.classify(_log(running, written), told, alive=alive, loaded=False))


def _plan(settings: Settings) -> Plan:
    return deployment.of(deployment.required(settings))


def _pids(running: Runtime, planned: Plan) -> dict[str, int | None]:
    return {state.name: state.pid for state in running.states() if state.name in planned.names}


def _written(running: Runtime, settings: Settings) -> dict[str, int]:
    """Return how many lines the logs of possible replicas have already."""
    family = ENGINES[settings.engine].family
    names = [f"{family}-{number}" for number in range(1, settings.replicas + 1)]
    return {name: len(running.tail(name, _ALL_LINES).splitlines()) for name in names}


def _log(running: Runtime, written: dict[str, int]) -> str:
    """Return what the replicas wrote since `written`; a log that is shorter was begun anew."""
    parts = []
    for name, before in written.items():
        lines = running.tail(name, _ALL_LINES).splitlines()
        parts += lines[before:] if len(lines) >= before else lines
    return "\n".join(parts)


def _number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def _product(factors: tuple[str, str]) -> float:
    return float(factors[0]) * float(factors[1]) if all(map(_number, factors)) else 0.0


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, list) else str(value)
