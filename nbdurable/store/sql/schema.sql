-- The file format of a journal.
--
-- A journal is a log of facts. Folding the facts gives the state of the engine; nothing else is
-- kept that could disagree with them. What SQL users see (sys_invocation, sys_journal and so on)
-- are views over this log.
--
-- Why two files. A checkpoint of DuckDB stops all commits to its own database for 0.3 to 3 s and
-- cannot be moved elsewhere. So facts are committed to a small `hot` database, and carried over
-- (absorbed) into `base` now and then, in one transaction on base. A transaction can write only
-- one attached database, hence the one number that joins the two: `base.meta.absorbed_lsn`. A fact
-- in hot at or below it is a copy that was not removed yet; a fact above it exists in hot only.
-- `max(lsn)` must never be used in its place: it is null in a new journal, and it goes backwards
-- when the newest facts are purged.
--
-- Why no primary key, no index, no constraint. They make a delete 300 times slower, and indexes
-- are where DuckDB's write-ahead log has had its defects. Lsns are dense and unique because one
-- thread numbers them; opening a journal checks it.
--
-- The ten columns of `fact`:
--   lsn            1, 2, 3 ... in the order of the decisions, without a gap until purged.
--   epoch          Which ownership of the journal wrote it.
--   at_ms          Milliseconds since 1970-01-01 UTC, by the engine's clock.
--   kind           The fact's name, or Restate's entry type: `Command: Run`, `Notification: Sleep`.
--   invocation_id  Whose journal it belongs to; null for facts of a key or of the deployment.
--   entry_index    Position in that journal, if it is an entry.
--   name           What a person would call it: step, target, promise.
--   body           The whole fact as JSON text. Not a JSON column: one bad value would make a
--                  whole group of facts fail.
--   payload        The user's bytes, if the fact carries any. At most one per fact. Bytes past
--                  32 KiB are a file in blobs/; then this is X'00', 'nbdurable blob', X'00' and
--                  the name of that file, which is the digest of its content (see blobs.py).
--   crc            CRC-32 over all the others but payload, whose digest is in body. So a row can be
--                  trusted, and the state folded, without reading a payload.
--
-- `base.state` is the state of all object keys, exact up to absorbed_lsn. Its `service` is
-- `scope/service` for keys in a scope; neither name may hold a slash. It holds its own copy of
-- the bytes, because it outlives the invocations whose facts it was folded from. `comparable` is
-- false when equal values need not have equal bytes; `value_bytes` is their count, so that opening
-- a journal reads no value.
--
-- `base.snapshot` is what opening a journal reads in place of the facts of invocations that have
-- ended, exact up to absorbed_lsn: for each of them, until it is purged, one fact that says all
-- that is still known of it, and another if its journal was purged. Its rows are encoded and
-- checked like facts, and say nothing that base.fact does not.
--
-- `base.blob` says which files of blobs/ are named by facts of base, or by state that outlived its
-- fact: no payload has to be read to find the files that nobody names any more. Exact up to
-- absorbed_lsn as well.
--
-- What never changes: the names and meanings of these columns, and that a file written by one
-- version opens in every later one. Columns and tables may be added, with a higher
-- `format_version` here and in `format.json`, and a migration in `migrations/`.

-- name: create_base
-- The database of everything that was absorbed.
create table base.meta (
    format_version integer,
    journal_id varchar,
    created_at_ms bigint,
    absorbed_lsn bigint
);
create table base.fact (
    lsn bigint,
    epoch integer,
    at_ms bigint,
    kind varchar,
    invocation_id varchar,
    entry_index integer,
    name varchar,
    body varchar,
    payload blob,
    crc uinteger
);
create table base.snapshot (
    lsn bigint,
    epoch integer,
    at_ms bigint,
    kind varchar,
    invocation_id varchar,
    entry_index integer,
    name varchar,
    body varchar,
    crc uinteger
);
create table base.blob (
    lsn bigint,
    name varchar
);
create table base.state (
    service varchar,
    key varchar,
    name varchar,
    value blob,
    lsn bigint,
    digest varchar,
    comparable boolean,
    value_bytes bigint
);

-- name: create_hot
-- The database that commits go to.
create table hot.meta (
    format_version integer,
    journal_id varchar,
    created_at_ms bigint
);
create table hot.fact (
    lsn bigint,
    epoch integer,
    at_ms bigint,
    kind varchar,
    invocation_id varchar,
    entry_index integer,
    name varchar,
    body varchar,
    payload blob,
    crc uinteger
);

-- name: begin_base
-- The journal that a new base belongs to.
insert into base.meta (
    format_version,
    journal_id,
    created_at_ms,
    absorbed_lsn
)
values (
    $format_version,
    $journal_id,
    $created_at_ms,
    0
);

-- name: begin_hot
-- The journal that a new hot belongs to.
insert into hot.meta (
    format_version,
    journal_id,
    created_at_ms
)
values (
    $format_version,
    $journal_id,
    $created_at_ms
);

-- name: create_views
-- Views of our own in-memory instance, never stored: the log as one table, and what in it changes
-- the state of an object key. Both see each fact once, whichever files hold it. Whoever absorbs a
-- part only sets `absorb_upto`, which nobody else has.
create view pending as
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
from hot.fact
where
    lsn > (select absorbed_lsn from base.meta)
    and lsn <= coalesce(cast(getvariable('absorb_upto') as bigint), 9223372036854775807);

create view fact as
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
from base.fact
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
    payload,
    crc
from pending;

create view pending_change as
select
    lsn,
    kind,
    concat_ws(
        '/',
        json_extract_string(body, '$.object.scope'),
        json_extract_string(body, '$.object.service')
    ) as service,
    json_extract_string(body, '$.object.key') as key,
    json_extract_string(body, '$.command.key') as name,
    json_extract_string(body, '$.command.value.digest') as digest,
    cast(json_extract_string(body, '$.command.value.bytes') as bigint) as value_bytes,
    coalesce(json_extract_string(body, '$.command.value.comparable') = 'true', true) as comparable,
    kind in ('Command: ClearAllState', 'InvocationPurged')
    or coalesce(
        kind = 'StateEdited' and json_extract_string(body, '$.command.type') = 'ClearAllState',
        false
    ) as clears_all,
    payload
from pending
where
    kind in (
        'Command: SetState',
        'Command: ClearState',
        'Command: ClearAllState',
        'StateEdited',
        'InvocationPurged'
    )
    and json_extract_string(body, '$.object.service') is not null;
