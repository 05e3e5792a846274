"""The tuner against random search and a grid with as many starts, on simulated servers.

Nothing is measured: the same seeds give the same table. A share is the true rate of what was
recommended, of the best that the server can do; 0 is a recommendation that runs out of memory.
"""

import argparse
from statistics import median

from tuner_contest import STARTS, contest

from cloister import console


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="nox -s bench-tuner --", description=__doc__)
    parser.add_argument("--servers", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=0)
    chosen = parser.parse_args()
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.servers)
    shares = list(contest(seeds))
    rows = []
    for name in shares[0]:
        found = sorted(one[name] for one in shares)
        good = sum(share >= 0.97 for share in found)  # noqa: PLR2004  # the column's name
        rows.append((name, STARTS, f"{median(found):.4f}", f"{found[0]:.4f}", good))
    console.table(("", "starts at most", "median share", "worst share", "0.97 or more"), rows)


if __name__ == "__main__":
    main()
