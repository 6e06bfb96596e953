"""`python -m nbdurable.testing [SEED]`: simulations from this seed on, until one finds something.

Without a seed it draws one. A seed that found something finds it again, wherever it is run.
"""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
import time

from nbdurable.testing.programs import Cast
from nbdurable.testing.simulation import STEPS, Report, Violation, simulate

SEEDS = 100


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m nbdurable.testing", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="of the first simulation")
    parser.add_argument("--steps", type=int, default=STEPS, help="how long each storm is")
    parser.add_argument("--seeds", type=int, help="how many simulations; 1 with a SEED, else 100")
    asked = parser.parse_args(arguments)
    first = secrets.randbits(32) if asked.seed is None else asked.seed
    count = asked.seeds or (SEEDS if asked.seed is None else 1)
    # Failed commits are the point here, and nobody need read of each.
    logging.disable(logging.ERROR)
    say(f"seeds {first} to {first + count - 1}, {asked.steps} steps each")
    total, cast, begun_s = Report(), Cast(), time.process_time()
    for seed in range(first, first + count):
        try:
            total.add(simulate(seed, asked.steps, cast))
        except Violation as violation:
            say(str(violation))
            return 1
    say(total.summary(time.process_time() - begun_s))
    return 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
