-- The databases of format 1, as that version of nbdurable made them. Never changed.

-- name: create_base
-- Everything that was absorbed.
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
-- What commits went to.
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

