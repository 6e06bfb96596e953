-- Absorbing: everything between `begin_absorb` and `commit_absorb` is one transaction on base.
-- The views `pending` and `pending_change` compare with absorbed_lsn, so it is moved last.
--
-- What looks for few facts among all of base finds their lsns first, from short columns, and then
-- the facts by their lsns. In one step DuckDB would read every body there is: among 10^6 facts a
-- purge takes 20 ms in two steps, and 330 ms in one.

-- name: begin_absorb
-- Base only; a second attached database written here would be refused by DuckDB.
begin transaction;

-- name: absorb_upto
-- What lies past it waits for the next transaction.
set variable absorb_upto = {last_lsn};

-- name: absorb_all
-- Nothing is held back.
reset variable absorb_upto;

-- name: absorb_facts
-- In lsn order, so that the zone maps of base find an lsn without an index. That is the order of
-- hot, which DuckDB keeps (preserve_insertion_order); sorting blobs would need twice their memory.
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
from pending;

-- name: count_changes
-- Most groups change no state and purge nothing; then the four statements below are skipped.
select
    count(*) filter (kind not in ('InvocationPurged', 'JournalPurged')) as change_count,
    count(*) filter (kind in ('InvocationPurged', 'JournalPurged')) as purge_count
from pending
where
    kind in (
        'Command: SetState',
        'Command: ClearState',
        'Command: ClearAllState',
        'StateEdited',
        'InvocationPurged',
        'JournalPurged'
    );

-- name: forget_state
-- Every value that was set again, cleared, or went with its workflow.
delete from base.state
where
    (service, key, name) in (
        select
            service,
            key,
            name
        from pending_change
        where not clears_all
    )
    or (service, key) in (
        select
            service,
            key
        from pending_change
        where clears_all
    );

-- name: absorb_state
-- The last change of a name wins, if it is a set and nothing cleared the whole key after it.
-- Grouped, not compared pair by pair: one key may have been set 100,000 times.
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
with last_change as (
    select max(lsn) as lsn
    from pending_change
    where not clears_all
    group by
        service,
        key,
        name
),
last_clear as (
    select
        service,
        key,
        max(lsn) as lsn
    from pending_change
    where clears_all
    group by
        service,
        key
)
select
    change.service,
    change.key,
    change.name,
    change.payload,
    change.lsn,
    change.digest,
    change.comparable,
    change.value_bytes
from pending_change as change
inner join last_change
    on change.lsn = last_change.lsn
left join last_clear
    on
        change.service = last_clear.service
        and change.key = last_clear.key
where
    change.kind in ('Command: SetState', 'StateEdited')
    and change.lsn > coalesce(last_clear.lsn, 0);

-- name: purge_facts
-- All facts of a purged invocation with the purge itself. A later life under the same id (a
-- workflow key that was run again) has higher lsns and stays.
delete from base.fact
where
    lsn in (
        select gone.lsn
        from base.fact as gone
        inner join pending as purge
            on
                gone.invocation_id = purge.invocation_id
                and gone.lsn <= purge.lsn
        where purge.kind = 'InvocationPurged'
    );

-- name: purge_journals
-- The entries of an invocation that itself is kept: how it began and ended stays.
delete from base.fact
where
    lsn in (
        select gone.lsn
        from base.fact as gone
        inner join pending as purge
            on
                gone.invocation_id = purge.invocation_id
                and gone.lsn <= purge.lsn
        where
            purge.kind = 'JournalPurged'
            and gone.kind not in ('InvocationCreated', 'InvocationCompleted', 'JournalPurged')
    );

-- name: purge_promises
-- Promises and edits of the state belong to the workflow key, not to an invocation, and go with
-- its run.
delete from base.fact
where
    kind in ('PromiseCompleted', 'StateEdited')
    and exists (
        select 1
        from pending_change as purge
        where
            purge.kind = 'InvocationPurged'
            and purge.service = concat_ws(
                '/',
                json_extract_string(fact.body, '$.object.scope'),
                json_extract_string(fact.body, '$.object.service')
            )
            and purge.key = json_extract_string(fact.body, '$.object.key')
            and purge.lsn > fact.lsn
    );

-- name: forget_snapshot
-- Of a purged invocation nothing is known any more. Before `absorb_snapshot`, which may bring the
-- end of a later life under the same id.
delete from base.snapshot
where
    invocation_id in (
        select invocation_id
        from pending
        where kind = 'InvocationPurged'
    );

-- name: snapshot_reach
-- All that ended up to this lsn has its place in the snapshot; nothing that ended later has.
select coalesce(min(ended.lsn) - 1, max(meta.absorbed_lsn)) as reach_lsn
from base.meta
left join base.fact as ended
    on
        ended.kind = 'InvocationCompleted'
        and not exists (
            select 1
            from base.snapshot as kept
            where kept.invocation_id = ended.invocation_id
        );

-- name: ended
-- How each invocation began and ended whose end is in this range. What was purged is gone by then, so
-- that of an id that lives again there is only its last life.
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
    lsn in (
        select either.lsn
        from base.fact as either
        where
            either.kind in ('InvocationCreated', 'InvocationCompleted')
            and either.invocation_id in (
                select completed.invocation_id
                from base.fact as completed
                where
                    completed.kind = 'InvocationCompleted'
                    and completed.lsn between $first_lsn and $last_lsn
            )
    )
order by lsn;

-- name: absorb_journal_purges
-- As they are: the snapshot is facts, and this one says what has become of the one before it. Of
-- what has no place there yet it comes with that: see `ended_journal_purges`.
insert into base.snapshot (
    lsn,
    epoch,
    at_ms,
    kind,
    invocation_id,
    entry_index,
    name,
    body,
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
    crc
from pending
where
    kind = 'JournalPurged'
    and invocation_id in (
        select invocation_id
        from base.snapshot
    );

-- name: ended_journal_purges
-- Of what ended in this range, whenever its journal was purged.
insert into base.snapshot (
    lsn,
    epoch,
    at_ms,
    kind,
    invocation_id,
    entry_index,
    name,
    body,
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
    crc
from base.fact
where
    kind = 'JournalPurged'
    and invocation_id in (
        select completed.invocation_id
        from base.fact as completed
        where
            completed.kind = 'InvocationCompleted'
            and completed.lsn between $first_lsn and $last_lsn
    );

-- name: absorb_blobs
-- Which files are named, so that no payload of base is ever read to find out. A payload that is
-- kept in a file is stored as this mark and the file's name (see blobs.py).
insert into base.blob (
    lsn,
    name
)
select
    lsn,
    decode(payload[17:]) as name
from pending
where payload[:16] = '\x00nbdurable blob\x00'::blob;

-- name: forget_blobs
-- Of facts that were purged, and values that were written again since. State may outlive the fact
-- that set it, under the same lsn.
delete from base.blob
where
    not exists (
        select 1
        from base.fact
        where fact.lsn = blob.lsn
    )
    and not exists (
        select 1
        from base.state
        where state.lsn = blob.lsn
    );

-- name: move_absorbed_lsn
-- From here on the copies in hot do not count.
update base.meta
set absorbed_lsn = $last_lsn;

-- name: commit_absorb
-- The moment of truth: before it all new facts are in hot only, after it all are in base.
commit;

-- name: empty_hot
-- Only after the commit above; in a transaction of its own, since it writes the other database.
delete from hot.fact;
