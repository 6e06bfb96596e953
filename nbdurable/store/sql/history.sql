-- What the tables of SQL users are made of: the log, kind by kind. See views.sql.
--
-- How they are cut, and why that is fast. Most of a log is bodies, and reading them costs more than
-- everything else together. So a view reads the bodies of as few kinds as it can, by a filter on
-- `kind` that reaches the scan: how each invocation began, how those that have ended did, and the
-- last words of those that have not. All that is a number is taken from the other columns, in one
-- pass. DuckDB leaves out what nobody asks for within a pass, but no join of several: hence few.
--

-- name: begin_views
-- All or none of them: whoever makes them may be interrupted.
begin transaction;

-- name: commit_views
-- In memory only.
commit;

-- name: create_history
-- Functions and views that the tables below are made of.
create schema history;

create macro history.timestamp(at_ms) as make_timestamptz(cast(at_ms as bigint) * 1000);

create macro history.text(body, path) as json_extract_string(body, path);

create macro history.number(body, path) as try_cast(json_extract_string(body, path) as bigint);

-- A payload that is a file stays the mark of that file; whoever shows the row puts the bytes back.
create macro history.is_file(payload) as
    starts_with(hex(payload[:16]), '006E6264757261626C6520626C6F6200');

create macro history.payload_bytes(payload, body) as
    case
        when history.is_file(payload)
            then cast(regexp_extract(body, '"bytes":([0-9]+)', 1) as bigint)
        else octet_length(payload)
    end;

create macro history.failure_text(result) as
    case
        when history.text(result, '$.type') = 'failure'
            then '[' || history.text(result, '$.code') || '] ' || history.text(result, '$.message')
    end;

create macro history.utf8(payload) as try(decode(payload));

-- What a purge that waits in hot has not removed yet. Joined from the left below, which costs
-- nothing while nothing waits; `not exists` costs a second.
create view history.forgotten as
select
    invocation_id,
    max(lsn) filter (kind = 'InvocationPurged') as lsn,
    max(lsn) as journal_lsn
from pending
where kind in ('InvocationPurged', 'JournalPurged')
group by invocation_id;

-- The facts of the lives that invocations have now: a later life under the same id (a workflow key
-- that ran again) has higher lsns.
create view history.kept as
select
    fact.lsn,
    fact.epoch,
    fact.at_ms,
    fact.kind,
    fact.invocation_id,
    fact.entry_index,
    fact.name,
    fact.body,
    fact.payload
from fact
left join history.forgotten
    on fact.invocation_id = forgotten.invocation_id
where
    fact.invocation_id is not null
    and (
        forgotten.journal_lsn is null
        or fact.lsn > forgotten.journal_lsn
        or (
            fact.kind in ('InvocationCreated', 'InvocationCompleted', 'JournalPurged')
            and (forgotten.lsn is null or fact.lsn > forgotten.lsn)
        )
    );

-- Bodies end here: past a join they would have to be held in memory, and they are most of a log.
create view history.created as
select
    invocation_id,
    lsn,
    epoch,
    at_ms,
    name as target,
    history.text(body, '$.target.service') as service,
    history.text(body, '$.target.key') as key,
    history.text(body, '$.target.handler') as handler,
    history.text(body, '$.target.scope') as scope,
    history.text(body, '$.service_type') as service_type,
    history.text(body, '$.handler_type') as handler_type,
    history.text(body, '$.status') as status,
    history.text(body, '$.limit_key') as limit_key,
    history.text(body, '$.idempotency_key') as idempotency_key,
    history.text(body, '$.restarted_from') as restarted_from,
    history.text(body, '$.caller.invocation_id') as caller_id,
    history.number(body, '$.start_at_ms') as start_at_ms,
    history.number(body, '$.completion_retention_ms') as completion_retention_ms,
    history.number(body, '$.journal_retention_ms') as journal_retention_ms
from history.kept
where kind = 'InvocationCreated';

create view history.completed as
select
    invocation_id,
    at_ms,
    cast(history.text(body, '$.revision') as integer) as revision,
    history.text(body, '$.result.type') as result_type,
    history.failure_text(json_extract(body, '$.result')) as failure
from history.kept
where kind = 'InvocationCompleted';

-- What can be said of an invocation without opening a body. `turned` is what gave it its status.
create view history.numbers as
select
    invocation_id,
    max(lsn) filter (
        kind not like 'Command: %'
        and kind not like 'Notification: %'
        and kind not in (
            'InvocationMoved',
            'RunAttemptFailed',
            'OutputWritten',
            'MismatchAccepted',
            'JournalPurged'
        )
    ) as turned_lsn,
    arg_max(kind, lsn) filter (
        kind not like 'Command: %'
        and kind not like 'Notification: %'
        and kind not in (
            'InvocationMoved',
            'RunAttemptFailed',
            'OutputWritten',
            'MismatchAccepted',
            'JournalPurged'
        )
    ) as turned_kind,
    max(at_ms) filter (kind != 'JournalPurged') as modified_at_ms,
    max(lsn) filter (kind = 'InvocationPending') as queued_lsn,
    max(at_ms) filter (kind = 'InvocationPending') as queued_at_ms,
    min(at_ms) filter (kind in ('AttemptStarted', 'InvocationReadied')) as locked_at_ms,
    min(at_ms) filter (kind = 'AttemptStarted') as first_started_at_ms,
    max(at_ms) filter (kind = 'AttemptStarted') as last_started_at_ms,
    max(epoch) filter (kind = 'AttemptStarted') as last_started_epoch,
    max(lsn) filter (kind in ('AttemptStarted', 'InvocationReadied')) as resumed_lsn,
    max(lsn) filter (kind like 'Command: %') as last_command_lsn,
    max(lsn) filter (kind = 'AttemptFailed') as failed_lsn,
    bool_or(kind = 'JournalPurged') as journal_purged,
    count(entry_index) as entry_count,
    count(entry_index) filter (kind not like 'Notification: %') as command_count
from history.kept
group by invocation_id;

-- The last words of those that have not ended.
create view history.live as
select
    kept.invocation_id,
    arg_max(history.number(kept.body, '$.revision'), kept.lsn) filter (
        kept.kind in ('AttemptStarted', 'InvocationMoved')
    ) as revision,
    arg_max(history.number(kept.body, '$.revision'), kept.lsn) filter (
        kept.kind = 'AttemptStarted'
    ) as started_revision,
    arg_max(history.number(kept.body, '$.failure_count'), kept.lsn) filter (
        kept.kind = 'AttemptFailed'
    ) as failure_count,
    arg_max(kept.body, kept.lsn) filter (
        kept.kind in ('AttemptFailed', 'RunAttemptFailed')
    ) as failed,
    arg_max(kept.body, kept.lsn) filter (kept.kind = 'InvocationSuspended') as suspended,
    max(kept.lsn, 2) filter (kept.kind = 'InvocationPaused') as last_two_paused_lsns
from history.kept
left join history.completed
    on kept.invocation_id = completed.invocation_id
where
    completed.invocation_id is null
    and kept.kind in (
        'AttemptStarted',
        'AttemptFailed',
        'RunAttemptFailed',
        'InvocationMoved',
        'InvocationPaused',
        'InvocationSuspended'
    )
group by kept.invocation_id;

-- Of a purged journal nothing is left but how the invocation began and ended. These two alone have
-- to be looked up, which spares a join that would hold every payload of the log.
create view history.entry as
select
    lsn,
    at_ms,
    kind,
    invocation_id,
    entry_index,
    name,
    body,
    payload
from history.kept
where
    entry_index is not null
    and kind not in ('InvocationCreated', 'InvocationCompleted')
union all
select
    kept.lsn,
    kept.at_ms,
    kept.kind,
    kept.invocation_id,
    kept.entry_index,
    kept.name,
    kept.body,
    kept.payload
from history.kept
left join (
    select
        purged.invocation_id,
        max(purged.lsn) as lsn
    from history.kept as purged
    where purged.kind = 'JournalPurged'
    group by purged.invocation_id
) as journal_purged
    on kept.invocation_id = journal_purged.invocation_id
where
    kept.entry_index is not null
    and kept.kind in ('InvocationCreated', 'InvocationCompleted')
    and journal_purged.lsn is null;

create view history.owner as
select
    cast(history.text(body, '$.epoch') as integer) as epoch,
    max(lsn) as lsn,
    any_value(history.text(body, '$.version')) as version
from fact
where kind = 'EpochStarted'
group by all;

create view history.manifest as
select
    history.text(body, '$.manifest.name') as service,
    history.number(body, '$.revision') as revision,
    at_ms,
    body
from fact
where kind = 'ServiceRegistered';

-- A revision of a service is a deployment of its own, under a name made of both. Dividing numbers of
-- 128 bits takes DuckDB 0.2 ms, so it is done once for each revision, and looked up.
create macro history.base62(number) as
    array_to_string(
        list_transform(
            cast([
                43674252383913877424036476406214950912,
                704423425546998022968330264616370176,
                11361668153983839080134359106715648,
                183252712161029662582812243656704,
                2955688905823059073916326510592,
                47672401706823533450263330816,
                768909704948766668552634368,
                12401769434657526912139264,
                200028539268669788905472,
                3226266762397899821056,
                52036560683837093888,
                839299365868340224,
                13537086546263552,
                218340105584896,
                3521614606208,
                56800235584,
                916132832,
                14776336,
                238328,
                3844,
                62,
                1
            ] as uhugeint []),
            lambda power: substr(
                '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ',
                cast((number // power) % 62 as integer) + 1,
                1
            )
        ),
        ''
    );

create view history.deployment as
select
    'dp_1' || history.base62(md5_number(service || '/' || cast(revision as varchar))) as id,
    service,
    revision,
    at_ms,
    body
from history.manifest;

create view history.deployment_ids as
select
    map_from_entries(
        list({
            'key': service || '/' || cast(revision as varchar),
            'value': id
        })
    ) as ids
from history.deployment;

create macro history.deployment_id(of_service, of_revision) as
    (
        select deployment_ids.ids
        from history.deployment_ids
    )[of_service || '/' || cast(of_revision as varchar)];

-- As one value, because a call names its target and nothing else of it: `Service/handler` to types.
create view history.handler_types as
select
    map_from_entries(
        list({
            'key': handler.service || '/' || history.text(handler.handler, '$.name'),
            'value': {
                'service': handler.service_type,
                'handler': history.text(handler.handler, '$.type')
            }
        })
    ) as types
from (
    select
        service,
        arg_max(history.text(body, '$.manifest.type'), revision) as service_type,
        unnest(
            json_extract(arg_max(body, revision), '$.manifest.handlers[*]')
        ) as handler
    from history.manifest
    group by service
) as handler;

-- Codes of Restate for what it has codes for; else the one of an error that is retried.
create macro history.restate_code(error) as
    case
        when error is null then null
        when starts_with(history.text(error, '$.type_name'), 'RT0')
            then history.text(error, '$.type_name')
        when history.text(error, '$.code') = '570' then 'RT0016'
        when history.text(error, '$.code') = '571' then 'RT0012'
        else 'RT0007'
    end;

-- Of a failure that a step raised. Any other says which command was the last one.
create macro history.step_type(failed) as
    case
        when history.text(failed, '$.error.completion_id') is not null then 'Command: Run'
    end;

-- Grouped, and joined last: so DuckDB sees that nothing is lost without it.
create view history.caller as
select
    invocation_id,
    any_value(target) as target,
    any_value(service) as service
from history.created
group by invocation_id;
