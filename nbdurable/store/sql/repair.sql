-- Making a journal anew of what can be read of a harmed one. `aside` is one harmed database, read
-- only; `base` and `hot` are new and empty. Rows are copied as they are, in the order they have.

-- name: aside_bounds
-- How far it goes, by the shortest column.
select
    count(*) as fact_count,
    min(lsn) as first_lsn,
    max(lsn) as last_lsn
from aside.fact;

-- name: aside_journal
-- Which journal it belongs to.
select
    journal_id,
    created_at_ms
from aside.meta;

-- name: aside_absorbed
-- How far base had absorbed.
select absorbed_lsn
from aside.meta;

-- name: aside_facts
-- A part of the log, with its payloads: what is not read cannot be said to be there.
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
from aside.fact
where lsn between $first_lsn and $last_lsn;

-- name: aside_values
-- The state of all object keys, to be held against what was written.
select
    value,
    digest
from aside.state;

-- name: remake_base
-- All of a base that is whole but for its projections.
insert into base.fact (
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
)
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
from aside.fact;
insert into base.state (
    service,
    key,
    name,
    value,
    lsn,
    digest,
    comparable,
    value_bytes
)
select
    service,
    key,
    name,
    value,
    lsn,
    digest,
    comparable,
    value_bytes
from aside.state;
insert into base.blob (
    lsn,
    name
)
select
    lsn,
    decode(payload[17:]) as name
from base.fact
where payload[:16] = '\x00nbdurable blob\x00'::blob
union
select
    lsn,
    decode(value[17:]) as name
from base.state
where value[:16] = '\x00nbdurable blob\x00'::blob;
update base.meta
set absorbed_lsn = (select absorbed_lsn from aside.meta);

-- name: remake_hot
-- What is to be absorbed again, from either database.
insert into hot.fact (
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
)
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
from aside.fact
where lsn between $first_lsn and $last_lsn;

-- name: detach_aside
-- Its place is for the next one.
detach aside;
