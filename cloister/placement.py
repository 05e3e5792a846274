"""Which replica goes on which card, and how much of the card's memory it may take: pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from cloister.engines.vllm.memory import Need
from cloister.errors import DeploymentError
from cloister.gpus import Card

# The bounds of `engines.per_gpu` and `vllm.max_model_len`, so that a hint can be followed.
MOST_PER_GPU = 16
LEAST_TOKENS = 1024


@dataclass(frozen=True)
class Seat:
    """Where one replica runs: the card's number, and its share of that card's memory in percent."""

    gpu: int
    memory_percent: int


def place(
    replicas: int,
    cards: Sequence[Card],
    *,
    gpus: Sequence[int] = (),
    per_gpu: int | None = None,
    memory_percent: int,
    need: Need | None,
) -> tuple[Seat, ...]:
    """Return the replicas' seats in their order, on `gpus` or, without, on any of the cards.

    At most `per_gpu` (or one) share a card, equally, and `memory_percent` of it together. No card
    gets a second one while another is empty; beyond that each goes where its share is largest. A
    card whose shares would fall below `need` gets no more. Each seat depends on those before it
    only, so one replica more moves none to another card, though its share may shrink.

    Raises DeploymentError with the arithmetic when they do not fit.
    """
    room = _Room(_allowed(cards, gpus), memory_percent, need)
    per_gpu = per_gpu or 1
    counts = dict.fromkeys((card.index for card in room.cards), 0)
    order: list[int] = []
    for _ in range(min(replicas, per_gpu * len(room.cards))):
        card = room.next_card(counts, per_gpu)
        if card is None:
            _refuse_small(replicas, room, counts, per_gpu)
        order.append(card.index)
        counts[card.index] += 1
    if len(order) < replicas:
        _refuse_many(replicas, room, per_gpu)
    return tuple(Seat(index, room.percent(counts[index])) for index in order)


def waves(seats: Sequence[Seat]) -> tuple[tuple[int, ...], ...]:
    """Return the replicas, as indices of `seats`, that may start at once, wave after wave.

    A wave has no two of one card: vLLM measures the card's free memory as it starts, and would
    take what its neighbour allocates meanwhile for its own.
    """
    found: list[list[int]] = []
    seated: dict[int, int] = {}
    for index, seat in enumerate(seats):
        wave = seated.get(seat.gpu, 0)
        seated[seat.gpu] = wave + 1
        if wave == len(found):
            found.append([])
        found[wave].append(index)
    return tuple(tuple(wave) for wave in found)


@dataclass(frozen=True)
class _Room:
    """The cards that may be used, the percent of each that may, and what one replica needs."""

    cards: tuple[Card, ...]
    memory_percent: int
    need: Need | None

    @property
    def measured(self) -> bool:
        """Whether it is known how many fit, which takes the need and every card's size."""
        return self.need is not None and all(card.memory_mib for card in self.cards)

    def percent(self, count: int) -> int:
        return self.memory_percent // count

    def share_mib(self, card: Card, count: int) -> int:
        return card.memory_mib * self.percent(count) // 100

    def suits(self, card: Card, count: int) -> bool:
        if self.percent(count) < 1:
            return False
        # A card that shares the machine's memory may not tell a size: only vLLM can find out.
        if self.need is None or not card.memory_mib:
            return True
        return self.share_mib(card, count) >= self.need.total_mib

    def next_card(self, counts: Mapping[int, int], per_gpu: int) -> Card | None:
        """Return the card for the next replica, None when none has room."""
        fit = [
            card
            for card in self.cards
            if counts[card.index] < per_gpu and self.suits(card, counts[card.index] + 1)
        ]
        return min(fit, key=lambda card: self._rank(card, counts[card.index]), default=None)

    def nearest_card(self, counts: Mapping[int, int], per_gpu: int) -> Card:
        """Return the card that one more replica would fit best, though it does not fit."""
        free = [card for card in self.cards if counts[card.index] < per_gpu]
        return min(free, key=lambda card: self._rank(card, counts[card.index]))

    def capacity(self, per_gpu: int) -> int:
        """Return how many replicas fit with at most `per_gpu` a card."""
        tries = range(1, per_gpu + 1)
        return sum(self.suits(card, count) for card in self.cards for count in tries)

    def fitting_tokens(self, replicas: int, per_gpu: int) -> int:
        """Return the longest page with which all the replicas fit, 0 or less when none does."""
        tries = range(1, per_gpu + 1)
        shares = sorted(
            (self.share_mib(card, count) for card in self.cards for count in tries), reverse=True
        )
        if self.need is None or not self.need.kv_mib or replicas > len(shares):
            return 0
        kv_mib = shares[replicas - 1] - (self.need.total_mib - self.need.kv_mib)
        return kv_mib * self.need.tokens // self.need.kv_mib

    def enough(self, replicas: int) -> int | None:
        """Return the fewest a card with which the replicas fit, None when they never do."""
        tries = range(1, MOST_PER_GPU + 1)
        return next((most for most in tries if self.capacity(most) >= replicas), None)

    def _rank(self, card: Card, count: int) -> tuple[bool, int, int]:
        return count > 0, -self.share_mib(card, count + 1), card.index


def _allowed(cards: Sequence[Card], gpus: Sequence[int]) -> tuple[Card, ...]:
    if not cards:
        raise DeploymentError(
            "this machine has no GPU that nvidia-smi finds, and the engine needs one",
            hint="install NVIDIA's driver, or `--set engine=tesseract`",
        )
    unknown = sorted(set(gpus) - {card.index for card in cards})
    if unknown:
        raise DeploymentError(
            f"this machine has no GPU {_listed(unknown)}; "
            f"it has {_listed(card.index for card in cards)}",
            hint="set `engines.gpus` to numbers that nvidia-smi lists, or to nothing for all",
        )
    return tuple(card for card in cards if not gpus or card.index in gpus)


def _refuse_many(replicas: int, room: _Room, per_gpu: int) -> NoReturn:
    count = len(room.cards)
    which = f"{count} GPU{'s' if count > 1 else ''} ({_listed(card.index for card in room.cards)})"
    taken = f", at most {per_gpu} on each, take {per_gpu * count}"
    raise DeploymentError(
        f"{replicas} replicas are too many: {which}{taken}",
        hint="; ".join(_ways(replicas, room, per_gpu)) or f"{per_gpu * count} replicas or fewer",
    )


def _refuse_small(replicas: int, room: _Room, counts: Mapping[int, int], per_gpu: int) -> NoReturn:
    card = room.nearest_card(counts, per_gpu)
    count = counts[card.index] + 1
    share = room.share_mib(card, count)
    percent = f"{room.memory_percent} %"
    if count > 1:
        percent = f"{room.memory_percent} / {count} = {room.percent(count)} %"
    wanted = str(room.need) if room.need and room.percent(count) else "at least 1 %"
    ways = _ways(replicas, room, per_gpu)
    tokens = room.fitting_tokens(replicas, per_gpu)
    if tokens >= LEAST_TOKENS:
        ways.append(f"lower `vllm.max_model_len` to {tokens}")
    raise DeploymentError(
        f"GPU {card.index} ({card.name}, {card.memory_mib:,} MiB) is too small for {count} "
        f"replica{'s' if count > 1 else ''}: {percent} of it is {share:,} MiB, and one needs "
        f"{wanted}",
        hint="; ".join(ways) or "choose a larger GPU or a smaller model",
    )


def _ways(replicas: int, room: _Room, per_gpu: int) -> list[str]:
    """Return what to type so that the replicas fit, and how many fit at most."""
    enough, most = room.enough(replicas), room.capacity(MOST_PER_GPU)
    ways = [f"`--per-gpu {enough}`"] if enough else []
    if not room.measured or not most:
        return ways
    widest = room.enough(most) or per_gpu
    fitting = room.capacity(per_gpu)
    if fitting:
        ways.append(f"{fitting} replica{'s' if fitting > 1 else ''} or fewer")
    if widest > per_gpu:
        ways.append(f"the most that fits is {most}, with `--per-gpu {widest}`")
    return ways


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
