"""What tells invocations apart is never drawn twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from nbdurable.client.seeds import SEED_BITS, Seeds


def test_many_threads_draw_no_seed_twice() -> None:
    draw = Seeds()
    with ThreadPoolExecutor(8) as threads:
        drawn = list(threads.map(lambda _: draw(), range(5_000)))
    assert len(set(drawn)) == len(drawn)
    assert all(0 <= seed < 2**SEED_BITS for seed in drawn)


def test_what_two_clients_draw_is_not_the_same() -> None:
    assert Seeds()() != Seeds()()
