-- From format 1 to 2: opening a journal reads one row in place of all the facts of an invocation
-- that has ended; and files that no fact names are found without reading a payload. The snapshot is
-- filled from base.fact by the code that absorbs (see migrate.py).
-- What stands here is never changed: it says what was done to files that are out there.

-- name: migrate_base_to_2
-- As schema.sql has it since.
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
update base.meta set format_version = 2;

-- name: migrate_hot_to_2
-- Hot itself is as it was.
update hot.meta set format_version = 2;
