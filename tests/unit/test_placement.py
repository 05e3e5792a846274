"""Which replica goes on which card, and what is refused."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from cloister.config.sections import EnginesSettings
from cloister.config.vllm_section import VllmSettings
from cloister.engines.vllm.memory import Need
from cloister.errors import DeploymentError
from cloister.gpus import Card
from cloister.placement import LEAST_TOKENS, MOST_PER_GPU, Seat, place, waves

MEMORY_MIB = {
    "NVIDIA L4": 23_034,
    "NVIDIA A100-SXM4-40GB": 40_960,
    "NVIDIA H100 80GB HBM3": 81_559,
    "NVIDIA H200": 143_771,
}
L4, A100, H100, H200 = MEMORY_MIB
NEED = Need(weights_mib=7180, kv_mib=648, tokens=18432)


def fleet(*names: str) -> tuple[Card, ...]:
    return tuple(Card(index, name, MEMORY_MIB[name]) for index, name in enumerate(names))


@dataclass(frozen=True)
class Case:
    """What `place` is asked, all but the number of replicas."""

    cards: tuple[Card, ...]
    per_gpu: int | None = None
    gpus: tuple[int, ...] = ()
    memory_percent: int = 90
    need: Need | None = NEED

    def place(self, replicas: int) -> tuple[Seat, ...]:
        return place(
            replicas,
            self.cards,
            gpus=self.gpus,
            per_gpu=self.per_gpu,
            memory_percent=self.memory_percent,
            need=self.need,
        )

    def refusal(self, replicas: int) -> str:
        with pytest.raises(DeploymentError) as raised:
            self.place(replicas)
        return str(raised.value)

    @property
    def allowed(self) -> tuple[Card, ...]:
        return tuple(card for card in self.cards if not self.gpus or card.index in self.gpus)

    @property
    def capacity(self) -> int:
        """How many fit, counted without what is tested."""
        least = self.need.total_mib if self.need else 0
        return sum(
            self.memory_percent // count > 0
            and card.memory_mib * (self.memory_percent // count) // 100 >= least
            for card in self.allowed
            for count in range(1, (self.per_gpu or 1) + 1)
        )


def numbers(seats: Sequence[Seat]) -> list[int]:
    return [seat.gpu for seat in seats]


def on_card(seats: Sequence[Seat]) -> dict[int, list[int]]:
    """Return the percents of each card's replicas."""
    found: dict[int, list[int]] = {}
    for seat in seats:
        found.setdefault(seat.gpu, []).append(seat.memory_percent)
    return found


def row(case: Case, replicas: int) -> str:
    try:
        seats = case.place(replicas)
    except DeploymentError as error:
        return f"  {replicas:2}  refused: " + str(error).replace("\n", "\n      ")
    return f"  {replicas:2}  " + " ".join(f"{seat.gpu}:{seat.memory_percent}%" for seat in seats)


def table(title: str, case: Case, counts: Sequence[int]) -> str:
    header = f"{title}; per_gpu {case.per_gpu}; gpus {list(case.gpus) or 'all'}"
    return "\n".join((header, *(row(case, replicas) for replicas in counts), ""))


def plans() -> list[str]:
    fleets = (
        fleet(L4),
        fleet(H100),
        fleet(L4, H100),
        fleet(L4, A100, H100, H200),
        fleet(L4, L4, A100, A100, H100, H100, H200, H200),
    )
    found = []
    for cards in fleets:
        title = ", ".join(f"{card.index} {card.name}" for card in cards)
        for per_gpu in (None, 1, 2, 3):
            case = Case(cards, per_gpu)
            # Everything that fits, one more, and more than the cards may take.
            beyond = {case.capacity + 1, (per_gpu or 1) * len(cards) + 1}
            found.append(table(title, case, [*range(1, case.capacity + 1), *sorted(beyond)]))
    return found


def corners() -> list[str]:
    four = fleet(L4, A100, H100, H200)
    large = Need(weights_mib=15_800, kv_mib=1008, tokens=18432)
    long = Need(weights_mib=7180, kv_mib=36_000, tokens=1_024_000)
    huge = Need(weights_mib=140_000, kv_mib=648, tokens=18432)
    untold = (Card(0, "NVIDIA GB10", 0),)
    return [
        table("no GPU", Case(()), [1]),
        table("four, restricted", Case(four, gpus=(1, 3)), [1, 2, 3]),
        table("four, restricted", Case(four, 2, gpus=(2, 0)), [1, 2, 3, 4, 5]),
        table("four, unknown ones", Case(four, gpus=(0, 7, 4)), [1]),
        table("four, need not known", Case(four, 2, need=None), [8, 9]),
        table("four, need not known", Case(four, need=None), [5, 100]),
        table("four, 16 GB of weights", Case(four, 2, need=large), [*range(1, 8), 9]),
        table("two small, 16 GB of weights, 70 %", Case(fleet(L4, L4), None, (), 70, large), [1]),
        table("four, pages of 1,024,000 tokens", Case(four, need=long), [1, 2, 3]),
        table("four, no model for them", Case(four, need=huge), [1, 5]),
        table("one, 2 %", Case(fleet(H200), 3, memory_percent=2, need=None), [1, 2, 3]),
        table("size not told", Case(untold, 2), [1, 2, 3]),
    ]


def test_the_plans_and_refusals(golden: Callable[[str, str], None]) -> None:
    explained = (
        "Each line: replicas, then card:percent of replica 1, 2, ...\n"
        f"One replica needs {NEED} unless said otherwise; 90 % of a card may be taken.\n"
    )
    golden("placement.txt", "\n".join((explained, *plans(), *corners())))


def test_without_per_gpu_it_is_one() -> None:
    cards = fleet(L4, A100, H100, H200)
    for replicas in range(1, 5):
        assert Case(cards).place(replicas) == Case(cards, 1).place(replicas)


def test_no_card_gets_a_second_one_while_another_is_empty() -> None:
    seats = Case(fleet(L4, H200), 3).place(4)
    assert numbers(seats) == [1, 0, 1, 1]
    assert on_card(seats) == {1: [30, 30, 30], 0: [90]}


def test_a_card_that_is_too_small_is_left_out_when_others_have_room() -> None:
    cards = (Card(0, "small", 8_000), *fleet(L4, H100)[1:])
    assert numbers(Case(cards, 2).place(2)) == [1, 1]
    assert "GPU 0 (small, 8,000 MiB) is too small" in Case(cards).refusal(2)


def test_cards_of_one_size_are_filled_evenly_by_number() -> None:
    cards = tuple(reversed(fleet(H100, H100, H100)))
    assert numbers(Case(cards, 2).place(6)) == [0, 1, 2, 0, 1, 2]


def test_a_refusal_is_two_lines_with_the_arithmetic_and_what_to_type() -> None:
    said = Case(fleet(L4), 2).refusal(2)
    assert said.splitlines()[0] == (
        "GPU 0 (NVIDIA L4, 23,034 MiB) is too small for 2 replicas: 90 / 2 = 45 % of it is "
        f"10,365 MiB, and one needs {NEED}"
    )
    assert said.splitlines()[1] == "hint: 1 replica or fewer; lower `vllm.max_model_len` to 3214"
    said = Case(fleet(H100, H100)).refusal(4)
    assert "`--per-gpu 2`" in said
    assert "the most that fits is 12" in said


def test_a_shorter_page_is_a_hint_only_where_all_of_them_fit_with_it() -> None:
    said = Case(fleet(L4), 2).refusal(2)
    assert "lower `vllm.max_model_len` to 3214" in said
    kept = Need(weights_mib=7180, kv_mib=113, tokens=3214)
    assert len(Case(fleet(L4), 2, need=kept).place(2)) == 2
    assert "max_model_len" not in Case(fleet(L4), 2).refusal(3)
    barely = Need(weights_mib=7260, kv_mib=648, tokens=18432)
    assert "max_model_len" not in Case(fleet(L4), 2, need=barely).refusal(2)


def limit(section: type[BaseModel], name: str, which: str) -> list[int]:
    found = section.model_fields[name].metadata
    return [getattr(bound, which) for bound in found if hasattr(bound, which)]


def test_a_hint_names_only_what_the_configuration_takes() -> None:
    assert limit(EnginesSettings, "per_gpu", "le") == [MOST_PER_GPU]
    assert limit(VllmSettings, "max_model_len", "ge") == [LEAST_TOKENS]
    tiny = Need(weights_mib=1, kv_mib=1, overhead_mib=1)
    said = Case(fleet(H200), need=tiny).refusal(MOST_PER_GPU + 1)
    assert f"the most that fits is {MOST_PER_GPU}, with `--per-gpu {MOST_PER_GPU}`" in said


def test_two_of_a_card_never_start_at_once() -> None:
    assert waves(()) == ()
    assert waves([Seat(0, 90)]) == ((0,),)
    seats = [Seat(gpu, 30) for gpu in (1, 0, 1, 1, 0, 2)]
    assert waves(seats) == ((0, 1, 5), (2, 4), (3,))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    indices = draw(st.lists(st.integers(0, 15), min_size=1, max_size=8, unique=True))
    sizes = st.sampled_from(sorted(MEMORY_MIB.values())) | st.integers(1_000, 200_000)
    cards = tuple(Card(index, "card", draw(sizes)) for index in indices)
    needs = st.builds(
        Need, st.integers(0, 60_000), st.integers(0, 8_000), st.just(3072), st.just(18432)
    )
    return Case(
        cards,
        per_gpu=draw(st.none() | st.integers(1, 6)),
        gpus=tuple(draw(st.lists(st.sampled_from(indices), max_size=8))),
        memory_percent=draw(st.integers(1, 98)),
        need=draw(st.none() | needs),
    )


@given(cases())
def test_what_fits_is_seated_and_what_does_not_is_refused(case: Case) -> None:
    before: tuple[Seat, ...] = ()
    for replicas in range(1, case.capacity + 1):
        seats = case.place(replicas)
        assert len(seats) == replicas
        assert numbers(seats)[:-1] == numbers(before), "one more moved another"
        require_fitting(case, seats)
        before = seats
    for replicas in (case.capacity + 1, case.capacity + 40):
        message, *hint = case.refusal(replicas).splitlines()
        assert message
        assert len(hint) == 1


@given(cases(), st.integers(1, 40))
def test_a_hint_that_is_followed_helps(case: Case, more: int) -> None:
    replicas = case.capacity + more
    said = case.refusal(replicas)
    if found := re.search(r"hint: `--per-gpu (\d+)`", said):
        assert len(replace(case, per_gpu=int(found[1])).place(replicas)) == replicas
    if found := re.search(r"(\d+) replicas? or fewer", said):
        assert len(case.place(int(found[1]))) == case.capacity
    if found := re.search(r"the most that fits is (\d+), with `--per-gpu (\d+)`", said):
        assert len(replace(case, per_gpu=int(found[2])).place(int(found[1]))) == int(found[1])
    if (found := re.search(r"`vllm.max_model_len` to (\d+)", said)) and case.need:
        kv_mib = -(-case.need.kv_mib * int(found[1]) // case.need.tokens)
        need = replace(case.need, kv_mib=kv_mib, tokens=int(found[1]))
        assert len(replace(case, need=need).place(replicas)) == replicas


def require_fitting(case: Case, seats: Sequence[Seat]) -> None:
    sizes = {card.index: card.memory_mib for card in case.allowed}
    for gpu, percents in on_card(seats).items():
        assert gpu in sizes
        assert len(percents) <= (case.per_gpu or 1)
        assert len(set(percents)) == 1
        assert percents[0] >= 1
        assert sum(percents) <= case.memory_percent
        if case.need:
            assert sizes[gpu] * percents[0] // 100 >= case.need.total_mib


@given(st.lists(st.builds(Seat, st.integers(0, 7), st.just(10)), max_size=40))
def test_waves_have_every_replica_once_and_no_card_twice(seats: list[Seat]) -> None:
    found = waves(seats)
    assert sorted(index for wave in found for index in wave) == list(range(len(seats)))
    assert all(wave for wave in found)
    for wave in found:
        assert len({seats[index].gpu for index in wave}) == len(wave)
    # No more waves than the fullest card needs.
    assert len(found) == max(Counter(seat.gpu for seat in seats).values(), default=0)
