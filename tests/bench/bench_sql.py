"""What SQL costs in a journal of a million facts: the CLI's queries, and those people ask first.

    python tests/bench/bench_sql.py                  # 10^4, 10^5 and 10^6 facts
    python tests/bench/bench_sql.py --facts 100000

A run has twelve facts, and all are in base. Each query is asked several times, and the best counts.
The first one also makes the views. Prints numbers to look at; they never pass or fail.

seconds    From the question to all rows as Python objects.
memory     What the process has grown by at most since the journal was opened.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from bench_open import resident_kib
from bench_resume import foreign_facts

from nbdurable.engine.ports import AnswerLimits
from nbdurable.errors import QueryError
from nbdurable.store.duck import DuckStore

FACTS = (10_000, 100_000, 1_000_000)
ROUNDS = 3
# As many as a terminal or a DataFrame is asked for; the rest is cut.
LIMITS = AnswerLimits(rows_max=10_000)

QUERIES = {
    "one invocation": "select * from sys_invocation where id = '{id}'",
    "its journal": "select * from sys_journal where id = '{id}' order by index",
    "its events": "select * from sys_journal_events where id = '{id}'",
    "how many of each status": "select status, count(*) from sys_invocation group by status",
    "the newest hundred": "select id from sys_invocation inv where status = 'completed'"
    " order by inv.created_at desc, inv.id limit 100",
    "what they are": "select * from sys_invocation where id in ('{id}')",
    "total of a list": "select count(1) from (select * from sys_invocation limit 50000) as inv"
    " where inv.status = 'completed'",
    "who holds locks": "select * from sys_keyed_service_status",
    "state": "select * from state",
    "slowest steps": "select name, count(*), sum(raw_length) from sys_journal"
    " where entry_type = 'Command: Run' group by name",
    "all of sys_invocation": "select * from sys_invocation",
    "all of sys_journal": "select * from sys_journal",
}


def measure(fact_count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        foreign_facts(Path(folder) / "journal", fact_count)
        store = DuckStore(Path(folder) / "journal")
        store.open()
        before_kib = resident_kib("VmRSS")
        ((one,),) = store.history.ask("select min(id) from sys_invocation").answer().rows
        print(f"{fact_count:,} facts")
        for name, sql in QUERIES.items():
            took = []
            said = ""
            for _ in range(ROUNDS):
                began = time.perf_counter()
                try:
                    answer = store.history.ask(sql.format(id=one), None, LIMITS).answer()
                    said = f"{len(answer.rows):,} rows" + (", cut" if answer.cut_by else "")
                except QueryError as error:
                    said = str(error)
                took.append(time.perf_counter() - began)
            print(f"  {name:24} {min(took):7.3f} s  {said}")
        print(f"  memory {(resident_kib('VmHWM') - before_kib) / 1024:.0f} MiB")
        store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--facts", type=int)
    given = parser.parse_args().facts
    for facts in FACTS if given is None else (given,):
        measure(facts)
