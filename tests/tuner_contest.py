"""The tuner, random search and a grid on the same simulated servers, with as many starts each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from random import Random

from server_simulation import MEMORY, SERVERS, SPACE, Server, configurations

from cloister.tuning import search
from cloister.tuning.memory import Memory
from cloister.tuning.trial import Trial

STARTS = 6


def tuned(server: Server) -> list[Trial]:
    """Start what the tuner asks for."""
    done: list[Trial] = []
    while len(done) < STARTS:
        wanted = search.next_start(done, Memory(SPACE, server.fitting))
        if wanted is None:
            break
        done.append(server.start(wanted))
    return done


def random(server: Server, choice: Random) -> list[Trial]:
    """Start configurations drawn at random."""
    return [server.start(one) for one in choice.sample(list(configurations()), STARTS)]


def grid(server: Server) -> list[Trial]:
    """Start a plain grid of two knobs, the others as they are."""
    return [
        server.start({**SPACE.first, MEMORY: percent, SERVERS: count})
        for percent in (80, 90)
        for count in (1, 4, 8)
    ]


def rate(server: Server, done: Sequence[Trial]) -> float:
    """Return the true rate of what is recommended."""
    kept = search.recommend(done, SPACE)
    return server.best(kept.configuration) if kept else 0.0


def contest(seeds: Iterable[int]) -> Iterator[Mapping[str, float]]:
    """Yield the shares of the three on a server a seed."""
    choice = Random(0)
    for seed in seeds:
        best = max(map(Server(seed).best, configurations()))
        yield {
            "tuner": rate(server := Server(seed), tuned(server)) / best,
            "random search": rate(server := Server(seed), random(server, choice)) / best,
            "grid": rate(server := Server(seed), grid(server)) / best,
        }
