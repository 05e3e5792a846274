"""Setting keys in the user's cloister.yaml, whose comments and order stay as they are."""

import re
from collections.abc import Mapping

from cloister.errors import ConfigError


def with_keys(text: str, section: str, values: Mapping[str, str]) -> str:
    """Return the file's text with one-line keys of a section set; pure.

    A key that is commented out is set where it stands. Without a section the keys are those that
    stand at the top. Raises ConfigError when the section is in one line, `model: {name: x}`.
    """
    lines = text.splitlines()
    if not section:
        return _with_top(lines, values)
    start = next((n for n, line in enumerate(lines) if re.match(rf"{section}\s*:", line)), None)
    if start is None:
        lines += ["", f"{section}:"]
        start = len(lines) - 1
    elif not re.fullmatch(rf"{section}\s*:\s*(#.*)?", lines[start]):
        raise ConfigError(
            f"cloister.yaml line {start + 1} has the section `{section}` in one line",
            hint="write its keys on lines of their own, or set them by hand",
        )
    for key, value in reversed(list(values.items())):
        end = next((n for n in range(start + 1, len(lines)) if re.match(r"\w", lines[n])), None)
        inside = range(start + 1, len(lines) if end is None else end)
        found = [n for n in inside if re.match(rf"\s+#?{key}\s*:", lines[n])]
        real = [n for n in found if "#" not in lines[n].partition(key)[0]]
        if found:
            place = (real or found)[0]
            indent = re.match(r"\s+", lines[place])
            lines[place] = f"{indent[0] if indent else '  '}{key}: {value}"
        else:
            lines.insert(start + 1, f"  {key}: {value}")
    return "\n".join(lines) + "\n"


def _with_top(lines: list[str], values: Mapping[str, str]) -> str:
    for key, value in values.items():
        found = [n for n, line in enumerate(lines) if re.match(rf"#?{key}\s*:", line)]
        real = [n for n in found if not lines[n].startswith("#")]
        if found:
            lines[(real or found)[0]] = f"{key}: {value}"
        else:
            lines.insert(0, f"{key}: {value}")
    return "\n".join(lines) + "\n"
