"""The tables of SQL users over rows that never saw a disk: some absorbed, some waiting in hot."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import duckdb

from nbdurable.core.facts import EpochStarted
from nbdurable.core.records import CopyOf, Record, Row, encode
from nbdurable.store.absorb import extend_snapshot, fold_into_base, one
from nbdurable.store.sql import HISTORY, QUERIES


def rows_of(records: Iterable[Record]) -> list[Row]:
    """As the engine writes them: in the epoch they were decided in, copies with their bytes."""
    epoch, payloads, rows = 0, {}, []
    for record in records:
        if isinstance(record.fact, EpochStarted):
            epoch = record.fact.epoch
        payload = record.payload
        if isinstance(payload, CopyOf):
            payload = payloads[payload.lsn]
        payloads[record.lsn] = payload
        rows.append(encode(record, epoch, payload))
    return rows


class Tables:
    """Mutable: a DuckDB in memory with the two databases of a journal, and the views over them."""

    def __init__(self) -> None:
        self.connection = duckdb.connect(":memory:")
        self.connection.execute("set TimeZone = 'UTC'")
        for database in ("base", "hot"):
            self.connection.execute(f"attach ':memory:' as {database}")
            self.connection.execute(QUERIES[f"create_{database}"])
        journal = {"format_version": 1, "journal_id": "x", "created_at_ms": 0}
        self.connection.execute(QUERIES["begin_base"], journal)
        self.connection.execute(QUERIES["create_views"])
        for name in HISTORY:
            self.connection.execute(QUERIES[name])
        self._appender = self.connection.appender("hot.fact")
        self._tables = [
            f"{database}.{name}"
            for database, name in self.connection.execute(
                "select database_name, table_name from duckdb_tables()"
                " where database_name in ('base', 'hot') and table_name != 'meta'"
            ).fetchall()
        ]

    def hold(
        self,
        rows: Sequence[Row],
        *absorbed_at: int,
        copies_are_left: bool = False,
        extended: Collection[int] = (),
    ) -> None:
        """Take in these rows and no others. Absorbs at each of these numbers of rows.

        `extended` are those of them where there was time for the snapshot. `copies_are_left` as by
        a kill between the last commit to base and the emptying of hot.
        """
        for table in self._tables:
            self.connection.execute(f"delete from {table}")
        self.connection.execute("update base.meta set absorbed_lsn = 0")
        begin = reach = 0
        for end in sorted(absorbed_at):
            if end > begin:
                self._append(rows[begin:end])
                fold_into_base(self.connection, rows[end - 1].lsn)
                if end in extended:
                    assert one(self.connection, "snapshot_reach")[0] >= reach
                    extend_snapshot(self.connection, reach + 1, rows[end - 1].lsn)
                    reach = rows[end - 1].lsn
                begin = end
                if not copies_are_left or end < max(absorbed_at):
                    self.connection.execute(QUERIES["empty_hot"])
        self._append(rows[begin:])

    def ask(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        found = self.connection.execute(sql, list(parameters) or None)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def _append(self, rows: Sequence[Row]) -> None:
        if rows:
            self._appender.append_rows(rows)
            self._appender.flush()
