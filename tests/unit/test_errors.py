"""Errors that users meet."""

from cloister import errors
from cloister.errors import CloisterError, ConfigError


def kinds() -> list[type[CloisterError]]:
    return [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, CloisterError) and kind is not CloisterError
    ]


def test_every_error_has_an_exit_code_of_its_own() -> None:
    codes = [kind.exit_code for kind in kinds()]
    assert len(set(codes)) == len(codes)
    # 1 is for bugs, 124 to 130 are for time-outs, docker and Ctrl-C.
    assert not {0, 1, *range(124, 256)} & set(codes)


def test_a_hint_is_a_line_of_its_own() -> None:
    assert str(ConfigError("found a", hint="type b")) == "found a\nhint: type b"
    assert str(ConfigError("found a")) == "found a"
