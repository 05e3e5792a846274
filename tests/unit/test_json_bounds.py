"""What is counted of a JSON body while it arrives, and what an engine's app sees of it."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import json_bodies
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.engines import json_bounds, turns
from cloister.engines.json_bounds import BodyRefusedError, JsonBoundsMiddleware, JsonCounter

# Marks that mean something outside strings only, half of an escape, and letters of several bytes.
TEXTS = st.text(alphabet='ab"\\[]{},: \u00e9\u2028\U0001f600\n/', max_size=12)
KEYS = st.sampled_from(["url", "image_url", "URL", "text", "u\\rl"]) | TEXTS
URLS = st.sampled_from(["data:", "DATA:image/png;base64,", "dat", 'data:a/b\\c"d', "xdata:"])
NUMBERS = st.integers() | st.floats() | st.sampled_from([None, True, False])
VALUES: st.SearchStrategy[Any] = st.recursive(
    TEXTS | NUMBERS | st.builds(str.__add__, URLS, TEXTS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


PICTURES = st.builds(str.__add__, URLS, TEXTS)
PARTS = st.fixed_dictionaries(
    {},
    optional={
        "image_url": PICTURES | st.fixed_dictionaries({}, optional={"url": PICTURES}) | VALUES,
        "url": PICTURES,
    },
)
BODIES = VALUES | st.fixed_dictionaries(
    {"messages": st.lists(st.fixed_dictionaries({}, optional={"content": st.lists(PARTS)}))},
    optional={"image_url": PICTURES, "x": VALUES},
)


@dataclass
class Counts:
    """The same numbers as a counter's, from a value that is parsed already."""

    values: int = 0
    containers: int = 0
    deepest: int = 0

    def add(self, value: Any, depth: int = 0) -> None:
        self.values += 1
        if isinstance(value, dict | list):
            self.containers += 1
            self.deepest = max(self.deepest, depth + 1)
        for inner in value if isinstance(value, list) else ():
            self.add(inner, depth + 1)
        for inner in value.values() if isinstance(value, dict) else ():
            self.values += 1
            self.add(inner, depth + 1)


def of(value: Any) -> Counts:
    counts = Counts()
    counts.add(value)
    return counts


def messages(value: Any) -> list[Any]:
    return value.get("messages", []) if isinstance(value, dict) else []


def image_bytes(value: Any, *, is_ascii: bool) -> int:
    """Return the bytes of all images where a message has them, as they are written."""
    total = 0
    for part in (part for message in messages(value) for part in message.get("content", [])):
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        written = json.dumps(url, ensure_ascii=is_ascii).encode().strip(b'"')
        if isinstance(url, str) and written[:5].lower() == b"data:":
            total += len(json.dumps(url, ensure_ascii=is_ascii).encode()) - 2
    return total


def pieces(body: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    return [body[begin:end] for begin, end in itertools.pairwise(places)]


def refusal(parts: list[bytes]) -> str:
    counter = JsonCounter()
    try:
        for part in parts:
            counter.feed(part)
    except BodyRefusedError as error:
        return str(error)
    return ""


@given(BODIES, st.booleans(), st.sampled_from([None, 2]), st.lists(st.integers(0, 10_000)))
def test_a_body_in_any_pieces_is_counted_as_its_value_is(
    value: Any,
    is_ascii: bool,  # noqa: FBT001
    indent: int | None,
    cuts: list[int],
) -> None:
    body = json.dumps(value, ensure_ascii=is_ascii, indent=indent).encode()
    counter = JsonCounter()
    for piece in pieces(body, cuts):
        counter.feed(piece)
    assert counter.values == of(value).values
    assert counter.containers == of(value).containers
    assert counter.messages == len(messages(value))
    assert counter.text_bytes == len(body) - image_bytes(value, is_ascii=is_ascii)


@given(BODIES, st.booleans(), st.lists(st.integers(0, 10_000)), st.data())
def test_a_body_is_refused_exactly_when_its_value_is_outside_a_bound(
    value: Any,
    is_ascii: bool,  # noqa: FBT001
    cuts: list[int],
    data: st.DataObject,
) -> None:
    body = json.dumps(value, ensure_ascii=is_ascii).encode()
    counts = of(value)
    bounds = {
        "MOST_VALUES": counts.values,
        "MOST_CONTAINERS": counts.containers,
        "MOST_MESSAGES": len(messages(value)),
        "DEEPEST": counts.deepest,
        "MOST_TEXT_BYTES": len(body) - image_bytes(value, is_ascii=is_ascii),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, most in bounds.items():
            patch.setattr(json_bounds, name, most)
        assert refusal(pieces(body, cuts)) == ""
        name = data.draw(st.sampled_from([name for name, most in bounds.items() if most]))
        patch.setattr(json_bounds, name, bounds[name] - 1)
        assert refusal(pieces(body, cuts)) != ""


NAMES = {"messages": "m\\u0065ssages", "content": "\\u0063onten\\u0074"}
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.lists(
            st.fixed_dictionaries({}, optional={"content": VALUES | st.lists(VALUES), "a": VALUES})
            | VALUES
        )
        | VALUES,
        "a": st.lists(st.fixed_dictionaries({"content": st.lists(VALUES)})),
    },
)


def in_order(value: Any) -> bool:
    """Return whether messages, and the parts of each, are objects, where they are lists."""
    messages = value.get("messages")
    if not isinstance(messages, list):
        return True
    contents = [one.get("content") for one in messages if isinstance(one, dict)]
    lists = [messages, *(content for content in contents if isinstance(content, list))]
    return all(isinstance(one, dict) for elements in lists for one in elements)


@given(MESSAGES, st.booleans(), st.lists(st.integers(0, 10_000)))
def test_a_message_or_a_part_that_is_no_object_is_refused(
    value: Any,
    is_escaped: bool,  # noqa: FBT001
    cuts: list[int],
) -> None:
    text = json.dumps(value)
    for name, escaped in NAMES.items() if is_escaped else ():
        text = text.replace(f'"{name}": ', f'"{escaped}": ')
    assert json.dumps(json.loads(text)) == json.dumps(value)
    assert ("objects in" in refusal(pieces(text.encode(), cuts))) is not in_order(value)


@given(st.sampled_from(["utf-16", "utf-16-le", "utf-32", "utf-32-be"]), VALUES)
def test_an_encoding_that_hides_quotation_marks_is_refused(encoding: str, value: Any) -> None:
    """Python's parser reads it: U+0122 has a quotation mark's byte, and would begin a string."""
    body = json.dumps(["\u0122", value], ensure_ascii=False).encode(encoding)
    assert json.loads(body)
    assert "UTF-8" in refusal([body])


UNOPENED = (
    *(b"]", b"}", b"]]]]", b"}}}", b" \n\t]", b",]", b":}", b"[}", b"{]", b"[]]", b"{}}", b"[[]]]"),
    *(b'"[["]]', b'"]"]', b'{"a":"{"}}', b'{"a":"\\"{"}}', b'{"messages":[}]', b'{"messages":[{]}'),
    *(
        b"1]",
        b"null}",
        b'{"a":[{"b":[]}}]',
        b'"a\\\\"]',
        b'{"model":"m"}' + b"]" * 1000,
        b"]" * 100_000,
    ),
)


@pytest.mark.parametrize("cut", [1, 3, 1 << 20])
@pytest.mark.parametrize("body", UNOPENED, ids=lambda body: ascii(body[:20]))
def test_a_bracket_that_closes_nothing_is_refused_before_anything_is_parsed(
    body: bytes, cut: int
) -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)
    parts = pieces(body, list(range(cut, len(body), cut)))
    assert "closes a list or an object that is not open" in refusal(parts)
    (first, last) = called(unreachable, parts)
    assert first["status"] == 400
    assert json.loads(last["body"])["error"]["code"] == json_bounds.CODE


@pytest.mark.parametrize("text", ["]]]]", "}}}", "[[[", '"]', "\\]", "\\", '{"a":[}'])
def test_brackets_inside_strings_are_text(text: str) -> None:
    for value in (text, [text], {text: text}, {"messages": [{"content": text}]}):
        body = json.dumps(value).encode()
        for cut in (1, len(body)):
            assert refusal(pieces(body, list(range(cut, len(body), cut)))) == ""


@pytest.mark.parametrize("cut", [1, 2, 50, 1000])
@pytest.mark.parametrize("number", ["9" * 100, "0." + "1" * 98, "-" + "1" * 96 + "e99"])
def test_a_long_number_is_refused_wherever_it_is_cut(number: str, cut: int) -> None:
    def cut_up(text: str) -> list[bytes]:
        body = f'{{"n":{text}}}'.encode()
        return [body[at : at + cut] for at in range(0, len(body), cut)]

    assert refusal(cut_up(number)) == ""
    assert refusal(cut_up(f"{number} ,{number}")) == ""
    assert "number" in refusal(cut_up(f"{number}1"))


def test_what_clients_send_is_inside_the_bounds() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 3_000_000}}
    pages = [{"role": "user", "content": [image] * 16}]
    properties = {f"field{number}": {"type": "string", "maxLength": 9} for number in range(600)}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    form = {"type": "json_schema", "json_schema": {"name": "page", "schema": schema}}
    chat = [{"role": "user", "content": "word " * 100}] * 500
    bodies = ({"messages": pages, "response_format": form}, {"messages": chat})
    for body in bodies:
        assert refusal([json.dumps(body).encode()]) == ""
    # PHP writes a slash as an escape.
    assert refusal([json.dumps(bodies[0]).replace("/", "\\/").encode()]) == ""


SIZE = 3 << 20
IMAGES = {"an image of zeros", "an image of junk"}


def test_every_shape_but_that_of_an_image_is_refused() -> None:
    passed = set()
    for name, body in json_bodies.bodies(SIZE):
        if not refusal([body[at : at + 65_536] for at in range(0, len(body), 65_536)]):
            passed.add(name)
    assert passed == IMAGES


def called(app: Any, parts: list[bytes], kind: str = "http") -> list[MutableMapping[str, Any]]:
    """Return what is sent for a request whose body comes in these parts."""
    sent: list[MutableMapping[str, Any]] = []
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    waiting = iter([*messages, {"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> MutableMapping[str, Any]:
        return next(waiting)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(JsonBoundsMiddleware(app)({"type": kind}, receive, send))
    return sent


async def echo(_: Any, receive: Any, send: Any) -> None:
    body = b""
    while (message := await receive())["type"] == "http.request" and message["more_body"]:
        body += message["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def fail(_: Any, receive: Any, send: Any) -> None:
    while (await receive())["type"] == "http.request":
        pass
    del send
    raise RuntimeError


async def unreachable(_scope: Any, receive: Any, send: Any) -> None:
    """Parse the body, which no test here lets come."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message.get("more_body"):
            json.loads(body)
            raise AssertionError("a body came to be parsed")
    await send({"type": "http.response.start", "status": 500, "headers": []})


def test_an_app_sees_a_body_inside_the_bounds_as_it_came() -> None:
    _, body = called(echo, [b'{"a', b'":1}'])
    assert body["body"] == b'{"a":1}'


@pytest.mark.parametrize("app", [echo, fail])
def test_a_body_outside_the_bounds_is_a_400_whatever_the_app_makes_of_it(app: Any) -> None:
    start, body = called(app, [b"[", b"{}," * 3_000, b"{}]"])
    assert start["status"] == 400
    error = json.loads(body["body"])["error"]
    assert error["code"] == "body_too_complex"
    assert error["message"] == "the body has more than 2,000 lists and objects"
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()


def test_of_many_bodies_at_once_one_is_parsed_in_a_round_of_the_event_loop() -> None:
    rounds: list[int] = []

    async def parse(_: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        rounds.append(turn)
        del send

    turn = 0
    middleware = JsonBoundsMiddleware(parse)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(_: Any) -> None:
        raise AssertionError

    async def main() -> None:
        nonlocal turn
        requests = [
            asyncio.create_task(middleware({"type": "http"}, receive, send)) for _ in range(20)
        ]
        while not all(request.done() for request in requests):
            turn += 1
            await asyncio.sleep(0)
        await asyncio.gather(*requests)

    asyncio.run(main())
    assert len(set(rounds)) == 20


def test_an_error_of_the_app_itself_is_not_hidden() -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        called(broken, [])


def test_what_is_no_request_passes() -> None:
    async def lifespan(scope: Any, _: Any, send: Any) -> None:
        await send({"type": scope["type"]})

    assert called(lifespan, [], kind="lifespan") == [{"type": "lifespan"}]


class Arrivals:
    """What is counted of bodies that arrive at once: whose piece, in which round of the loop."""

    def __init__(self, patch: pytest.MonkeyPatch, cost_s: float) -> None:
        self.counted: list[tuple[bytes, int]] = []
        self.round, self.now_s = 0, 0.0

        def feed(counter: JsonCounter, piece: bytes) -> None:
            self.counted.append((piece[:1], self.round))
            counter.bytes += len(piece)
            self.now_s += cost_s

        patch.setattr(JsonCounter, "feed", feed)
        patch.setattr(turns, "perf_counter", lambda: self.now_s)
        self.middleware = JsonBoundsMiddleware(self._read)

    @staticmethod
    async def _read(_: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        del send

    def send(self, name: bytes, pieces: int) -> "asyncio.Task[None]":
        left = iter(range(pieces - 1, -1, -1))

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": name * 1000, "more_body": next(left) > 0}

        async def send(_: Any) -> None:
            raise AssertionError

        return asyncio.create_task(self.middleware({"type": "http"}, receive, send))

    async def rounds(self, until: Callable[[], bool]) -> None:
        while not until():
            self.round += 1
            await asyncio.sleep(0)


def test_a_page_waits_for_no_more_than_a_piece_of_each_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arrivals = Arrivals(monkeypatch, cost_s=1.0)

    async def main() -> None:
        large = [arrivals.send(b"x", 50) for _ in range(36)]
        await arrivals.rounds(lambda: len(arrivals.counted) >= 36 * 10)
        page = arrivals.send(b"p", 8)
        await arrivals.rounds(page.done)
        await arrivals.rounds(lambda: all(one.done() for one in large))

    asyncio.run(main())
    order = b"".join(name for name, _ in arrivals.counted)
    assert order.count(b"x") == 36 * 50
    first, last = order.index(b"p"), order.rindex(b"p")
    assert last - first < 3 * 8
    in_a_round = Counter(number for _, number in arrivals.counted)
    assert max(in_a_round.values()) <= 2


def test_pieces_that_take_no_time_share_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals = Arrivals(monkeypatch, cost_s=turns.ROUND_S / 10)

    async def main() -> None:
        pages = [arrivals.send(b"p", 8) for _ in range(20)]
        await arrivals.rounds(lambda: all(page.done() for page in pages))

    asyncio.run(main())
    rounds = {number for _, number in arrivals.counted}
    assert len(rounds) < 20 * 8 / 4


def test_a_client_that_leaves_while_it_waits_takes_no_turn_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arrivals = Arrivals(monkeypatch, cost_s=1.0)

    async def main() -> None:
        bodies = [arrivals.send(b"x", 50) for _ in range(12)]
        for number, body in enumerate(bodies):
            await arrivals.rounds(lambda end=3 * number: len(arrivals.counted) > end)  # type: ignore[misc]
            body.cancel()
        page = arrivals.send(b"p", 2)
        await arrivals.rounds(page.done)

    asyncio.run(main())
    assert [name for name, _ in arrivals.counted].count(b"p") == 2
