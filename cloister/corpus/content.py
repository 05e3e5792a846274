"""Everything a page says: names, dates, sums and sentences, drawn from one seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

from faker import Faker

from cloister.corpus.prose import sentences


@dataclass(frozen=True)
class Region:
    """How one country writes: Faker locale, paper in mm, currency, tax and its rate, phones."""

    locale: str
    paper: tuple[float, float]
    currency: str
    tax: tuple[str, int]
    phone: str


REGIONS = (
    Region("en_US", (215.9, 279.4), "$", ("Sales tax", 8), "(%##) 555-01##"),
    Region("en_GB", (210.0, 297.0), "\u00a3", ("VAT", 20), "01%## 496 0###"),
)


class Content:
    """A seeded source of text, all of it Latin-1; the same seed says the same in the same order."""

    def __init__(self, seed: str) -> None:
        self.rng = Random(seed)  # noqa: S311 - repeatable on purpose
        self.region = self.rng.choice(REGIONS)
        self._fake = Faker(self.region.locale)
        self._fake.seed_instance(seed)
        self._deck: list[str] = []
        self._places = [self._fake.city() for _ in range(4)]

    def person(self) -> str:
        """Return a first and a last name."""
        return f"{self._fake.first_name()} {self._fake.last_name()}"

    def company(self) -> str:
        """Return the name of a firm."""
        return str(self._fake.company())

    def job(self) -> str:
        """Return an occupation that is one phrase, such as `Quantity surveyor`."""
        return str(self._fake.job()).split(",")[0]

    def town(self) -> str:
        """Return the name of a town."""
        return str(self._fake.city())

    def address(self) -> list[str]:
        """Return the lines of a postal address, without the addressee."""
        street = f"{self.rng.randint(1, 240)} {self._fake.street_name()}"
        if self.region.locale == "en_US":
            state = self._fake.state_abbr(
                include_territories=False, include_freely_associated_states=False
            )
            return [street, f"{self.town()}, {state} {self._fake.postcode()}"]
        return [street, self.town(), self._fake.postcode()]

    def phone(self) -> str:
        """Return a telephone number from the ranges reserved for fiction."""
        return str(self._fake.numerify(self.region.phone))

    def email(self, name: str) -> str:
        """Return an address at example.com for the person called `name`."""
        return f"{'.'.join(name.lower().split())}@example.com"

    def day(self, first: int = 1994, last: int = 2024) -> date:
        """Return a day from the years `first` to `last`; Faker's own would depend on today."""
        start = date(first, 1, 1)
        return start + timedelta(days=self.rng.randrange((date(last, 12, 31) - start).days))

    def written(self, day: date) -> str:
        """Return `day` as the region writes it: `March 4, 1996` or `4 March 1996`."""
        if self.region.locale == "en_US":
            return f"{day:%B} {day.day}, {day.year}"
        return f"{day.day} {day:%B} {day.year}"

    def money(self, cents: int) -> str:
        """Return a sum of `cents` with currency sign and thousands separators."""
        return f"{self.region.currency}{cents // 100:,}.{cents % 100:02}"

    def code(self, pattern: str) -> str:
        """Return `pattern` with digits for `#` and `%` (not 0), and capital letters for `?`."""
        return str(self._fake.bothify(pattern, letters="ABCDEFGHKLMNPRSTUVWXYZ"))

    def sentence(self, templates: Sequence[str]) -> str:
        """Return a sentence made from one of `templates`."""
        return sentences(self.rng, [self.rng.choice(templates)], self._places)

    def paragraph(self, templates: Sequence[str], shortest: int, longest: int) -> str:
        """Return `shortest` to `longest` sentences; all templates are used before one returns."""
        count = self.rng.randint(shortest, longest)
        if len(self._deck) < count:
            self._deck = self.rng.sample(templates, len(templates))
        drawn, self._deck = self._deck[:count], self._deck[count:]
        return sentences(self.rng, drawn, self._places)
