"""English sentences from templates."""

from collections.abc import Sequence
from random import Random

OPENINGS = (
    "Thank you for your letter of {day}, which reached our {place} office on the following Monday.",
    "With reference to our conversation of {day} I am writing to you about {thing}.",
    "We are pleased to answer the questions that you put to our {role} on {day}.",
    "Your order of {day} for our branch in {place} has received our full attention.",
)

LETTER = (
    "We have now compared your figures with our own and can confirm that {count} entries agree.",
    "The difference of {percent} per cent is explained by {thing}, booked twice in {year}.",
    "Our {role} will call on you before the end of the month to settle the remaining questions.",
    "Please return the enclosed copy, signed and dated, so that we can complete our records.",
    "As agreed by telephone, the {count} cartons will be collected from {place} free of charge.",
    "Should you prefer a different arrangement, we would be glad to hear from you by {day}.",
    "I have asked our {role} to look into {thing} and to report to me without delay.",
    "You will find our present conditions, which have applied since {year}, on the reverse.",
    "We regret the inconvenience that {thing} has caused you and your customers in {place}.",
    "The parts that you ordered are in stock again, and {count} of them left our works on {day}.",
    "As a long-standing customer you may deduct a discount of {percent} per cent.",
    "Your comments about {thing} were discussed at length when the board met in {place}.",
    "May we remind you that the warranty ends {count} days after delivery unless it is extended?",
)

REPORT = (
    "The survey covered {count} households in {place} and was repeated in {year}.",
    "According to the {role}, {thing} accounted for {percent} per cent of the annual expenditure.",
    "This result differs considerably from the estimate published in {place} a decade earlier.",
    "Between {year} and the end of the period, maintenance costs rose by {percent} per cent.",
    "Several respondents mentioned {thing}, although the questionnaire had not asked about it.",
    "Measurements were taken every {count} minutes and corrected for temperature and humidity.",
    "It remains uncertain whether {thing} or the unusually long winter was responsible.",
    "The instruments were calibrated in {place} before they were handed over to the {role}.",
    "Only {count} of the original recordings have been preserved in the municipal archive.",
    "A comparison with neighbouring districts shows that {thing} is by no means exceptional.",
    "Nevertheless, the committee recommended that {thing} should be examined again in {year}.",
    "For our purpose it is sufficient to distinguish permanent from seasonal residents.",
    "Transport to {place} took {count} hours on average, and considerably longer after heavy rain.",
    "The correlation was weak in the northern settlements ({percent} per cent of the variance).",
    "Where written evidence is lacking, the interpretation must depend on {thing}.",
    "By contrast, the introduction of {thing} in {year} had an immediate and lasting effect.",
    "Independent observers confirmed the general tendency, but not the magnitude of the change.",
    "Our {role} estimated that {count} additional samples would be necessary for certainty.",
)

TOPICS = (
    "the replacement of the water mains",
    "the drainage of the lower meadows",
    "the new timetable of the coastal railway",
    "the storage of agricultural machinery",
    "the distribution of imported timber",
    "the inspection of the harbour installations",
    "the shortage of experienced instrument makers",
    "the repair of the western embankment",
    "the revised classification of building materials",
    "the electrification of the northern branch line",
)

ROLES = (
    "district engineer",
    "technical director",
    "purchasing department",
    "head gardener",
    "chief accountant",
    "meteorological officer",
    "transport superintendent",
)

HEADINGS = (
    "Introduction",
    "Background and earlier work",
    "Material and methods",
    "Observations",
    "Results",
    "Discussion",
    "Consequences for practice",
    "Conclusions",
)


def sentences(rng: Random, templates: Sequence[str], places: Sequence[str]) -> str:
    """Return a paragraph with one sentence for each template."""
    return " ".join(
        template.format(
            day=f"{rng.randint(1, 28)} {rng.choice(('March', 'June', 'August', 'November'))}",
            place=rng.choice(places),
            count=rng.randint(12, 480),
            percent=f"{rng.randint(2, 38)}.{rng.randint(1, 9)}",
            thing=rng.choice(TOPICS),
            year=rng.randint(1961, 2014),
            role=rng.choice(ROLES),
        )
        for template in templates
    )
