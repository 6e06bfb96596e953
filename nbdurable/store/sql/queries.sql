-- name: append_few
-- A group of one fact, and of two, as a call with its first attempt is: a fifth to a third less than
-- by the appender that larger groups use. Columns in the order of the table; a select, since a list
-- of values takes a tenth more.
insert into hot.fact
select ?, ?, ?, ?, ?, ?, ?, ?, ?, ?;
insert into hot.fact
select ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
union all
select ?, ?, ?, ?, ?, ?, ?, ?, ?, ?;

-- name: base_meta
-- Which journal base belongs to, and how far it has absorbed.
select
    format_version,
    journal_id,
    absorbed_lsn
from base.meta;

-- name: hot_meta
-- Which journal hot belongs to.
select
    format_version,
    journal_id
from hot.meta;

-- name: hot_bounds
-- What is in hot, absorbed or not.
select
    count(*) as fact_count,
    min(lsn) as first_lsn,
    max(lsn) as last_lsn
from hot.fact;

-- name: count_other_copies
-- What was absorbed is in both, and the same, unless it was purged from base.
select count(*) as other_count
from hot.fact as copy
inner join base.fact as original
    on copy.lsn = original.lsn
where copy.crc != original.crc;

-- name: base_bounds
-- Nothing in base may lie past absorbed_lsn.
select max(lsn) as last_lsn
from base.fact;

-- name: check_pending
-- What opening is about to absorb; its payloads are checked by whoever reads them.
select
    lsn,
    epoch,
    at_ms,
    kind,
    invocation_id,
    entry_index,
    name,
    body,
    null as payload,
    crc
from pending
order by lsn;

-- name: memory_in_use
-- What can neither be dropped nor written to disk, and what has been written there.
select
    cast(coalesce(sum(memory_usage_bytes) filter (tag = 'ALLOCATOR'), 0) as bigint) as held_bytes,
    cast(sum(temporary_storage_bytes) as bigint) as spilled_bytes
from duckdb_memory();

-- name: begin_read
-- One snapshot for the statements that follow, which cannot write by mistake.
begin transaction read only;

-- name: pin_hot
-- A snapshot of each file begins when it is first touched. Hot before base: a fact that is absorbed
-- in between is then seen twice at worst, which the view `fact` removes, and never missed.
select lsn
from hot.fact
limit 1;

-- name: end_read
-- A snapshot held longer than needed would stand in the way of a checkpoint. Not a commit, which
-- would fail after an error and hide it.
rollback;

-- name: load_parts
-- Where each part of what is loaded ends: by place, since lsns have gaps of any size.
select max(lsn) as last_lsn
from base.fact
group by rowid // $part_facts
order by last_lsn;

-- name: load
-- What the engine's state folds from: the snapshot in place of what has ended; of what has ended and
-- has no place there yet, how it began and ended, which say as much; and the facts of all else: their lsns first, so that no other body is read. What was edited by hand is in base.state,
-- and a link ends with its epoch. No payloads, so that a journal opens in little memory, and
-- whatever has become of its blobs; and a part at a time, because what is sorted is held.
select
    lsn,
    epoch,
    at_ms,
    kind,
    invocation_id,
    entry_index,
    name,
    body,
    null as payload,
    crc
from base.snapshot
where lsn between $first_lsn and $last_lsn
union all
select
    lsn,
    epoch,
    at_ms,
    kind,
    invocation_id,
    entry_index,
    name,
    body,
    null as payload,
    crc
from base.fact
where
    lsn between $first_lsn and $last_lsn
    and lsn in (
        select live.lsn
        from base.fact as live
        where
            live.lsn between $first_lsn and $last_lsn
            and live.kind != 'StateEdited'
            and (
                live.kind not in ('CodeLoaded', 'LinkOpened', 'LinkClosed')
                or live.epoch = (select max(latest.epoch) from base.fact as latest)
            )
            and not exists (
                select 1
                from base.snapshot as ended
                where ended.invocation_id = live.invocation_id
            )
            and (
                live.kind in ('InvocationCreated', 'InvocationCompleted', 'JournalPurged')
                or not exists (
                    select 1
                    from base.fact as completed
                    where
                        completed.kind = 'InvocationCompleted'
                        and completed.invocation_id = live.invocation_id
                )
            )
    )
order by lsn;

-- name: load_state
-- All state without its bytes, which are read when somebody needs them.
select
    service,
    key,
    name,
    lsn,
    digest,
    comparable,
    value_bytes
from base.state
order by
    service,
    key,
    name;

-- name: read_journals
-- The rows of some invocations; the range lets the zone maps skip the rest of the log.
select
    lsn,
    epoch,
    at_ms,
    kind,
    invocation_id,
    entry_index,
    name,
    body,
    payload,
    crc
from fact
where
    lsn between $first_lsn and $last_lsn
    and invocation_id in (select unnest($invocation_ids));

-- name: read_rows
-- Everything of a range that has not been purged. In any order, as all that carries payloads.
select
    lsn,
    epoch,
    at_ms,
    kind,
    invocation_id,
    entry_index,
    name,
    body,
    payload,
    crc
from fact
where lsn between $first_lsn and $last_lsn;

-- name: read_payload
-- The bytes of one fact, while the fact is there.
select payload
from fact
where
    lsn = $lsn
    and payload is not null;

-- name: read_state_payload
-- The bytes of a fact that was purged, while an object's state still holds them.
select value
from base.state
where lsn = $lsn;

-- name: read_payloads
-- The bytes of many facts at once; the range lets the zone maps skip the rest of the log.
select
    lsn,
    payload
from fact
where
    lsn between $first_lsn and $last_lsn
    and lsn in (select unnest($lsns))
    and payload is not null;

-- name: read_state_payloads
-- The same, of facts that were purged while an object's state still holds their bytes.
select
    lsn,
    value
from base.state
where
    lsn between $first_lsn and $last_lsn
    and lsn in (select unnest($lsns));

-- name: blob_names
-- The files that are named, once everything is absorbed.
select distinct name
from base.blob;

-- name: count_blobs
-- Most journals have none.
select count(*) as named_count
from base.blob;

-- name: names_of_tables
-- What a query may be about: told to whoever has asked for a table that is not there.
select table_name
from information_schema.tables
where
    table_schema = 'main'
    and table_catalog = 'memory'
order by table_name;

-- name: names_of_columns
-- The same, of columns.
select distinct column_name
from information_schema.columns
where
    table_schema = 'main'
    and table_catalog = 'memory'
order by column_name;

-- name: readable_facts
-- How far a copy of one database can be read, when the journal that it is of cannot be opened.
select
    count(*) as fact_count,
    max(lsn) as last_lsn,
    max(at_ms) as last_at_ms
from aside.fact;
