"""Empties a folder that a container of another user filled.

Run as `python3 -m cloister.inside.empty FOLDER`, by a root that may pass file modes. Standard
library only.
"""

import sys
from pathlib import Path

from cloister import sockets


def main() -> None:
    """Remove everything in the folder; end with the reason where that fails."""
    try:
        sockets.remove_all(Path(sys.argv[1]))
    except OSError as error:
        sys.exit(str(error.strerror))


if __name__ == "__main__":
    main()
