"""The tuner, random search and a grid on the same simulated servers, with as many starts each."""

from collections.abc import Iterable, Iterator, Mapping
from random import Random

from server_simulation import Server, configurations

from cloister.tuning import knobs, search
from cloister.tuning.memory import Memory
from cloister.tuning.trial import Trial

STARTS = 6


def tuned(server: Server) -> list[Trial]:
    """Start what the tuner asks for."""
    done: list[Trial] = []
    while len(done) < STARTS:
        wanted = search.next_start(done, Memory(server.fitting))
        if wanted is None:
            break
        done.append(server.start(wanted))
    return done


def random(server: Server, choice: Random) -> list[Trial]:
    """Start configurations drawn at random."""
    return [server.start(one) for one in choice.sample(list(configurations()), STARTS)]


def grid(server: Server) -> list[Trial]:
    """Start a plain grid of two knobs, the others as they are."""
    usual = knobs.first(knobs.KNOBS)
    return [
        server.start({**usual, knobs.MEMORY: percent, "api_server_count": count})
        for percent in (80, 90)
        for count in (1, 4, 8)
    ]


def share(server: Server, done: Iterable[Trial]) -> float:
    """Return the true rate of what is recommended, as a share of the best there is."""
    kept = search.recommend(list(done))
    best = max(map(server.best, configurations()))
    return server.best(kept.trial.configuration) / best if kept else 0.0


def contest(seeds: Iterable[int]) -> Iterator[Mapping[str, float]]:
    """Yield the shares of the three on a server a seed."""
    choice = Random(0)
    for seed in seeds:
        yield {
            "tuner": share(server := Server(seed), tuned(server)),
            "random search": share(server := Server(seed), random(server, choice)),
            "grid": share(server := Server(seed), grid(server)),
        }
