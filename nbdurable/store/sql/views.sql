-- What SQL users see: Restate's introspection tables, as views over the facts.
--
-- Names, columns and words are Restate's, so that a query written on a notebook's journal also runs
-- on a cluster. What our facts cannot say is null with the right type. The views are exact for base
-- and hot together, within one snapshot; nothing here asks the clock, so they hold in virtual time.
-- The engine and the widgets never read them: they know the state.
--
-- How they are cut, and why that is fast. Most of a log is bodies, and reading them costs more than
-- everything else together. So a view reads the bodies of as few kinds as it can, by a filter on
-- `kind` that reaches the scan: how each invocation began, how those that have ended did, and the
-- last words of those that have not. All that is a number is taken from the other columns, in one
-- pass. DuckDB leaves out what nobody asks for within a pass, but no join of several: hence few.
--
-- The schema `history` holds what is no table of Restate's.
--
-- Source: restate-semantics.md, 3.3 (tables and columns) and 4 (stored and shown statuses);
-- restate-http-observed.md, "SQL"; restate-cli-calls.md, "SQL".

-- name: create_history
-- Functions and views that the tables below are made of.
create schema history;

create macro history.timestamp(at_ms) as make_timestamptz(cast(at_ms as bigint) * 1000);

create macro history.text(body, path) as json_extract_string(body, path);

create macro history.number(body, path) as try_cast(json_extract_string(body, path) as bigint);

-- The same as `deployment_id` in core/ids.py: a revision of a service is a deployment of its own.
create macro history.deployment_id(service, revision) as
    'dp_1' || left(sha256(service || '/' || cast(revision as varchar)), 24);

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
        and kind not in ('InvocationMoved', 'RunAttemptFailed', 'MismatchAccepted', 'JournalPurged')
    ) as turned_lsn,
    arg_max(kind, lsn) filter (
        kind not like 'Command: %'
        and kind not like 'Notification: %'
        and kind not in ('InvocationMoved', 'RunAttemptFailed', 'MismatchAccepted', 'JournalPurged')
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

-- name: create_invocations
-- One row for each invocation, live or completed, and the tables that are parts of it.
create view history.invocation as
select
    created.invocation_id as id,
    created.target,
    created.service as target_service_name,
    created.key as target_service_key,
    created.handler as target_handler_name,
    created.service_type as target_service_ty,
    created.handler_type,
    created.scope,
    created.limit_key,
    created.idempotency_key,
    created.restarted_from,
    created.caller_id,
    caller.target as caller_target,
    caller.service as caller_service,
    coalesce(completed.revision, live.revision) as revision,
    coalesce(completed.revision, live.started_revision) as started_revision,
    case when numbers.journal_purged then 0 else numbers.entry_count end as journal_size,
    case when numbers.journal_purged then 0 else numbers.command_count end
        as journal_commands_size,
    created.at_ms as created_at_ms,
    creator.version as created_by_version,
    numbers.modified_at_ms,
    coalesce(numbers.queued_lsn, case when created.status = 'pending' then created.lsn end)
        as queued_lsn,
    coalesce(numbers.queued_at_ms, case when created.status = 'pending' then created.at_ms end)
        as queued_at_ms,
    case when created.status = 'ready' then created.at_ms else numbers.locked_at_ms end
        as locked_at_ms,
    case when created.status = 'scheduled' then created.at_ms end as scheduled_at_ms,
    created.start_at_ms,
    numbers.first_started_at_ms,
    numbers.last_started_at_ms,
    starter.version as started_by_version,
    completed.at_ms as completed_at_ms,
    created.completion_retention_ms,
    created.journal_retention_ms,
    live.suspended,
    live.failed,
    case
        -- A step forward ends a row of failures, and so does an attempt after a pause.
        when numbers.failed_lsn is null or numbers.last_command_lsn > numbers.failed_lsn then 0
        when
            numbers.failed_lsn < list_max(
                list_filter(
                    live.last_two_paused_lsns,
                    lambda paused_lsn: paused_lsn < numbers.resumed_lsn
                )
            )
            then 0
        else live.failure_count
    end as failure_count,
    case numbers.turned_kind
        when 'InvocationCreated' then created.status
        when 'InvocationPending' then 'pending'
        when 'InvocationReadied' then 'ready'
        when 'AttemptStarted'
            then
                case
                    -- Whatever ran, ran in a process that is gone.
                    when numbers.turned_lsn < (select max(owner.lsn) from history.owner)
                        then 'ready'
                    else 'running'
                end
        when 'AttemptFailed' then 'backing-off'
        when 'AttemptLost' then 'ready'
        when 'InvocationSuspended' then 'suspended'
        when 'InvocationPaused' then 'paused'
        when 'InvocationCompleted' then 'completed'
    end as status,
    completed.result_type as completion_result,
    completed.failure as completion_failure
from history.created
left join history.numbers
    on created.invocation_id = numbers.invocation_id
left join history.completed
    on created.invocation_id = completed.invocation_id
left join history.live
    on created.invocation_id = live.invocation_id
left join history.owner as creator
    on created.epoch = creator.epoch
left join history.owner as starter
    on numbers.last_started_epoch = starter.epoch
left join history.caller
    on created.caller_id = caller.invocation_id;

create view sys_invocation as
select
    id,
    cast(null as varchar) as vqueue_id,
    target,
    target_service_name,
    target_service_key,
    target_handler_name,
    target_service_ty,
    scope,
    limit_key,
    idempotency_key,
    case
        when restarted_from is not null then 'restart_as_new'
        when caller_id is not null then 'service'
        else 'ingress'
    end as invoked_by,
    caller_service as invoked_by_service_name,
    caller_id as invoked_by_id,
    cast(null as varchar) as invoked_by_subscription_id,
    caller_target as invoked_by_target,
    restarted_from,
    history.deployment_id(target_service_name, revision) as pinned_deployment_id,
    cast(null as integer) as pinned_service_protocol_version,
    cast(null as varchar) as trace_id,
    journal_size,
    journal_commands_size,
    history.timestamp(created_at_ms) as created_at,
    created_by_version as created_using_restate_version,
    history.timestamp(modified_at_ms) as modified_at,
    history.timestamp(queued_at_ms) as inboxed_at,
    history.timestamp(scheduled_at_ms) as scheduled_at,
    history.timestamp(start_at_ms) as scheduled_start_at,
    history.timestamp(first_started_at_ms) as running_at,
    history.timestamp(completed_at_ms) as completed_at,
    to_milliseconds(completion_retention_ms) as completion_retention,
    to_milliseconds(journal_retention_ms) as journal_retention,
    case
        when status = 'suspended'
            then
                cast(
                    regexp_extract_all(suspended, '\{"type":"completion","id":([0-9]+)\}', 1)
                    as integer []
                )
    end as suspended_waiting_for_completions,
    case
        when status = 'suspended'
            then
                cast(
                    regexp_extract_all(suspended, '\{"type":"signal","id":([0-9]+)\}', 1)
                    as integer []
                )
    end as suspended_waiting_for_signals,
    case
        when status = 'suspended' then cast(json_extract(suspended, '$.waiting_for') as varchar)
    end as suspended_waiting_future_json,
    case
        when status = 'running' then failure_count + 1
        when status in ('ready', 'backing-off', 'paused') then failure_count
    end as retry_count,
    history.timestamp(last_started_at_ms) as last_start_at,
    history.timestamp(
        case when status = 'backing-off' then history.number(failed, '$.next_retry_at_ms') end
    ) as next_retry_at,
    history.deployment_id(target_service_name, started_revision) as last_attempt_deployment_id,
    'nbdurable/' || started_by_version as last_attempt_server,
    history.text(failed, '$.error.message') as last_failure,
    history.restate_code(json_extract(failed, '$.error')) as last_failure_error_code,
    cast(null as integer) as last_failure_related_entry_index,
    history.text(failed, '$.error.command_name') as last_failure_related_entry_name,
    history.step_type(failed) as last_failure_related_entry_type,
    history.number(failed, '$.error.command_index') as last_failure_related_command_index,
    history.text(failed, '$.error.command_name') as last_failure_related_command_name,
    history.step_type(failed) as last_failure_related_command_type,
    cast(null as varchar) as last_awaiting_on_future_json,
    status,
    completion_result,
    completion_failure
from history.invocation;

create view sys_invocation_status as
select
    id,
    vqueue_id,
    case status
        when 'pending' then 'inboxed'
        when 'ready' then 'invoked'
        when 'running' then 'invoked'
        when 'backing-off' then 'invoked'
        else status
    end as status,
    completion_result,
    completion_failure,
    target,
    target_service_name,
    target_service_key,
    target_handler_name,
    target_service_ty,
    scope,
    limit_key,
    idempotency_key,
    invoked_by,
    invoked_by_service_name,
    invoked_by_id,
    invoked_by_subscription_id,
    invoked_by_target,
    restarted_from,
    pinned_deployment_id,
    pinned_service_protocol_version,
    trace_id,
    journal_size,
    journal_commands_size,
    created_at,
    created_using_restate_version,
    modified_at,
    inboxed_at,
    scheduled_at,
    scheduled_start_at,
    running_at,
    completed_at,
    completion_retention,
    journal_retention,
    suspended_waiting_for_completions,
    suspended_waiting_for_signals,
    suspended_waiting_future_json
from sys_invocation;

create view sys_invocation_state as
select
    id,
    status = 'running' as in_flight,
    retry_count,
    last_start_at,
    last_attempt_deployment_id,
    last_attempt_server,
    next_retry_at,
    last_failure,
    last_failure_error_code,
    last_failure_related_entry_index,
    last_failure_related_entry_name,
    last_failure_related_entry_type,
    last_failure_related_command_index,
    last_failure_related_command_name,
    last_failure_related_command_type
from sys_invocation
where status in ('ready', 'running', 'backing-off', 'paused');

-- Queued for the lock, in the order in which they will get it.
create view sys_inbox as
select
    target_service_name as service_name,
    target_service_key as service_key,
    id,
    queued_lsn as sequence_number,
    history.timestamp(created_at_ms) as created_at
from history.invocation
where status = 'pending';

-- Who holds the lock: an exclusive handler that has begun and not ended.
create view history.holder as
select
    scope,
    target_service_name as service_name,
    target_service_key as service_key,
    id as invocation_id,
    locked_at_ms
from history.invocation
where
    handler_type = 'exclusive'
    and status in ('ready', 'running', 'backing-off', 'suspended', 'paused');

create view sys_keyed_service_status as
select
    service_name,
    service_key,
    invocation_id
from history.holder;

create view sys_locks as
select
    scope,
    service_name || '/' || service_key as lock_name,
    history.timestamp(locked_at_ms) as acquired_at,
    invocation_id as acquired_by
from history.holder;

-- name: create_journal
-- What each invocation did, entry by entry, and what happened to it beside.
create macro history.json_bytes(payload) as
    case
        when history.is_file(payload) then cast('null' as json)
        else
            to_json(
                list_transform(
                    regexp_extract_all(hex(payload), '..'),
                    lambda byte: cast('0x' || byte as utinyint)
                )
            )
    end;

create macro history.json_result(result, payload) as
    case
        when history.text(result, '$.type') = 'failure'
            then
                json_object(
                    'Failure',
                    json_object(
                        'code', json_extract(result, '$.code'),
                        'message', json_extract(result, '$.message')
                    )
                )
        when history.number(result, '$.value.bytes') = 0 then json_object('Success', cast('[]' as json))
        when result is not null then json_object('Success', history.json_bytes(payload))
    end;

create macro history.json_headers(headers) as
    to_json(
        list_transform(
            coalesce(json_keys(headers), []),
            lambda header: json_object(
                'name', header,
                'value',
                json_extract(headers, '/' || replace(replace(header, '~', '~0'), '/', '~1'))
            )
        )
    );

create macro history.json_target(target, type) as
    case type.service
        when 'virtual_object'
            then
                json_object(
                    'VirtualObject',
                    json_object(
                        'name', json_extract(target, '$.service'),
                        'key', json_extract(target, '$.key'),
                        'handler', json_extract(target, '$.handler'),
                        'handler_ty', case type.handler when 'shared' then 'Shared' else 'Exclusive' end,
                        'scope', json_extract(target, '$.scope')
                    )
                )
        when 'workflow'
            then
                json_object(
                    'Workflow',
                    json_object(
                        'name', json_extract(target, '$.service'),
                        'key', json_extract(target, '$.key'),
                        'handler', json_extract(target, '$.handler'),
                        'handler_ty', case type.handler when 'shared' then 'Shared' else 'Workflow' end,
                        'scope', json_extract(target, '$.scope')
                    )
                )
        else
            json_object(
                'Service',
                json_object(
                    'name', json_extract(target, '$.service'),
                    'handler', json_extract(target, '$.handler'),
                    'scope', json_extract(target, '$.scope')
                )
            )
    end;

-- What a command says, in Restate's words where these are other than ours.
create macro history.json_command(kind, command, types, payload) as
    case
        when kind in ('Command: Call', 'Command: OneWayCall')
            then
                json_object(
                    'request',
                    json_object(
                        'invocation_id', json_extract(command, '$.invocation_id'),
                        'invocation_target',
                        history.json_target(
                            json_extract(command, '$.target'),
                            types[
                                history.text(command, '$.target.service')
                                || '/'
                                || history.text(command, '$.target.handler')
                            ]
                        ),
                        'headers', history.json_headers(json_extract(command, '$.headers')),
                        'parameter', history.json_bytes(payload),
                        'idempotency_key', json_extract(command, '$.idempotency_key'),
                        'limit_key', json_extract(command, '$.limit_key')
                    ),
                    'result_completion_id', json_extract(command, '$.completion_id'),
                    'invoke_time', coalesce(json_extract(command, '$.invoke_at_ms'), '0'),
                    'name', coalesce(json_extract(command, '$.name'), '""')
                )
        when kind = 'Command: AttachInvocation'
            then
                json_object(
                    'target',
                    json_object('InvocationId', json_extract(command, '$.invocation_id')),
                    'completion_id', json_extract(command, '$.completion_id'),
                    'name', coalesce(json_extract(command, '$.name'), '""')
                )
        when kind = 'Command: Sleep'
            then
                json_object(
                    'wake_up_time', json_extract(command, '$.wake_up_at_ms'),
                    'completion_id', json_extract(command, '$.completion_id'),
                    'name', coalesce(json_extract(command, '$.name'), '""')
                )
        else
            json_merge_patch(
                '{"name": ""}',
                command,
                json_object(
                    'type', cast('null' as json),
                    'value',
                    case
                        when json_extract(command, '$.value') is not null
                            then history.json_bytes(payload)
                    end,
                    'result',
                    history.json_result(json_extract(command, '$.result'), payload)
                )
            )
    end;

create view history.journal as
select
    entry.invocation_id as id,
    entry.lsn,
    entry.entry_index,
    entry.kind,
    case entry.kind
        when 'InvocationCreated' then 'Command: Input'
        when 'InvocationCompleted' then 'Command: Output'
        else entry.kind
    end as entry_type,
    entry.at_ms,
    entry.name,
    entry.body,
    entry.payload,
    -- What a command waits for, in the same words as the notification that answers it.
    case
        when json_extract(entry.body, '$.command.completion_id') is not null
            then 'completion ' || history.text(entry.body, '$.command.completion_id')
        when json_extract(entry.body, '$.notification.completion_id') is not null
            then 'completion ' || history.text(entry.body, '$.notification.completion_id')
        when entry.kind = 'Command: Awakeable'
            then 'signal ' || history.text(entry.body, '$.command.signal_id')
        when entry.kind = 'Command: Signal'
            then
                'signal '
                || history.text(entry.body, '$.command.index')
                || ' of '
                || history.text(entry.body, '$.command.signal_name')
        when
            entry.kind = 'Notification: Signal'
            and json_extract(entry.body, '$.notification.name') is not null
            then
                'signal '
                || coalesce(history.text(entry.body, '$.notification.index'), '0')
                || ' of '
                || history.text(entry.body, '$.notification.name')
        when entry.kind = 'Notification: Signal'
            then 'signal ' || history.text(entry.body, '$.notification.signal_id')
    end as future
from history.entry;

create view history.answered as
select
    id,
    future
from history.journal
where kind like 'Notification: %'
group by
    id,
    future;

create view sys_journal as
select
    journal.id,
    journal.entry_index as index,
    journal.entry_type,
    case
        -- Elsewhere a fact is named after what it is about, if it was given no name.
        when journal.kind in ('InvocationCreated', 'InvocationCompleted') then null
        when journal.kind in ('Command: Run', 'Command: Sleep', 'Notification: Signal')
            then journal.name
        else history.text(journal.body, '$.command.name')
    end as name,
    case
        when journal.kind like 'Command: %' and journal.future is not null
            then answered.id is not null
    end as completed,
    case
        when journal.kind in ('Command: Call', 'Command: OneWayCall')
            then history.text(journal.body, '$.command.invocation_id')
    end as invoked_id,
    case
        when journal.kind in ('Command: Call', 'Command: OneWayCall')
            then
                concat_ws(
                    '/',
                    history.text(journal.body, '$.command.target.service'),
                    history.text(journal.body, '$.command.target.key'),
                    history.text(journal.body, '$.command.target.handler')
                )
    end as invoked_target,
    case
        when journal.kind = 'Command: Sleep'
            then history.timestamp(history.number(journal.body, '$.command.wake_up_at_ms'))
    end as sleep_wakeup_at,
    case
        when
            journal.kind in (
                'Command: GetPromise',
                'Command: PeekPromise',
                'Command: CompletePromise'
            )
            then history.text(journal.body, '$.command.key')
    end as promise_name,
    journal.payload as raw,
    coalesce(history.payload_bytes(journal.payload, journal.body), 0) as raw_length,
    2 as version,
    cast(
        case
            when journal.kind = 'InvocationCreated'
                then
                    json_object(
                        'Command',
                        json_object(
                            'Input',
                            json_object(
                                'headers',
                                history.json_headers(json_extract(journal.body, '$.headers')),
                                'payload', history.json_bytes(journal.payload),
                                'name', ''
                            )
                        )
                    )
            when journal.kind = 'InvocationCompleted'
                then
                    json_object(
                        'Command',
                        json_object(
                            'Output',
                            json_object(
                                'result',
                                history.json_result(
                                    json_extract(journal.body, '$.result'),
                                    journal.payload
                                ),
                                'name', ''
                            )
                        )
                    )
            when journal.kind like 'Command: %'
                then
                    json_object(
                        'Command',
                        json_object(
                            journal.kind[10:],
                            history.json_command(
                                journal.kind,
                                json_extract(journal.body, '$.command'),
                                (select handler_types.types from history.handler_types),
                                journal.payload
                            )
                        )
                    )
            when journal.kind = 'Notification: Signal'
                then
                    json_object(
                        'Notification',
                        json_object(
                            'Signal',
                            json_object(
                                'id',
                                case
                                    when json_extract(journal.body, '$.notification.name') is null
                                        then
                                            json_object(
                                                'Index',
                                                json_extract(
                                                    journal.body,
                                                    '$.notification.signal_id'
                                                )
                                            )
                                    else
                                        json_object(
                                            'Name',
                                            json_extract(journal.body, '$.notification.name')
                                        )
                                end,
                                'result',
                                history.json_result(
                                    json_extract(journal.body, '$.notification.result'),
                                    journal.payload
                                )
                            )
                        )
                    )
            else
                json_object(
                    'Notification',
                    json_object(
                        'Completion',
                        json_object(
                            journal.kind[15:],
                            json_object(
                                'completion_id',
                                json_extract(journal.body, '$.notification.completion_id'),
                                'result',
                                history.json_result(
                                    json_extract(journal.body, '$.notification.result'),
                                    journal.payload
                                )
                            )
                        )
                    )
                )
        end
        as varchar
    ) as entry_json,
    cast(null as varchar) as entry_lite_json,
    history.timestamp(journal.at_ms) as appended_at
from history.journal
left join history.answered
    on
        journal.id = answered.id
        and journal.future = answered.future;

create macro history.json_failure(error) as
    json_merge_patch(
        '{}',
        json_object(
            'error_code', json_extract(error, '$.code'),
            'error_message', json_extract(error, '$.message'),
            'error_stacktrace', json_extract(error, '$.stacktrace'),
            'restate_doc_error_code', history.restate_code(error),
            'related_command_index', json_extract(error, '$.command_index'),
            'related_command_name', json_extract(error, '$.command_name'),
            'related_command_type',
            case when json_extract(error, '$.completion_id') is not null then 'Run' end
        )
    );

create view history.event as
select
    invocation_id as id,
    lsn,
    at_ms,
    kind,
    body,
    last_value(
        case when kind in ('AttemptFailed', 'RunAttemptFailed') then json_extract(body, '$.error') end
        ignore nulls
    ) over (
        partition by invocation_id
        order by lsn
    ) as error
from history.kept
where kind in ('AttemptFailed', 'RunAttemptFailed', 'InvocationPaused', 'InvocationSuspended');

create view sys_journal_events as
select
    event.id,
    entry.entry_index as after_journal_entry_index,
    history.timestamp(event.at_ms) as appended_at,
    case event.kind
        when 'InvocationPaused' then 'Paused'
        when 'InvocationSuspended' then 'Suspended'
        else 'TransientError'
    end as event_type,
    cast(
        case event.kind
            when 'InvocationPaused'
                then
                    json_merge_patch(
                        '{"ty": "Paused"}',
                        json_object(
                            'last_failure',
                            case
                                when history.text(event.body, '$.by') != 'user'
                                    then history.json_failure(event.error)
                            end
                        )
                    )
            when 'InvocationSuspended'
                then
                    json_object(
                        'ty', 'Suspended',
                        'waiting_for', json_extract(event.body, '$.waiting_for')
                    )
            else
                json_merge_patch('{"ty": "TransientError"}', history.json_failure(event.error))
        end
        as varchar
    ) as event_json
from history.event
asof left join history.entry
    on
        event.id = entry.invocation_id
        and event.lsn >= entry.lsn;

-- name: create_keys
-- What object keys hold: state and promises.
create view state as
with changed as (
    select
        service,
        key,
        name,
        max(lsn) as lsn
    from pending_change
    where not clears_all
    group by
        service,
        key,
        name
),
cleared as (
    select
        service,
        key,
        max(lsn) as lsn
    from pending_change
    where clears_all
    group by
        service,
        key
),
entry as (
    select
        held.service,
        held.key,
        held.name,
        held.value,
        held.value_bytes
    from base.state as held
    left join changed
        on
            held.service = changed.service
            and held.key = changed.key
            and held.name = changed.name
    left join cleared
        on
            held.service = cleared.service
            and held.key = cleared.key
    where
        changed.lsn is null
        and cleared.lsn is null
    union all
    select
        change.service,
        change.key,
        change.name,
        change.payload,
        change.value_bytes
    from pending_change as change
    inner join changed
        on change.lsn = changed.lsn
    left join cleared
        on
            change.service = cleared.service
            and change.key = cleared.key
    where
        change.kind = 'Command: SetState'
        and change.lsn > coalesce(cleared.lsn, 0)
)
select
    nullif(regexp_extract(service, '^(.*)/', 1), '') as scope,
    regexp_extract(service, '[^/]*$') as service_name,
    key as service_key,
    name as key,
    octet_length(encode(name)) as key_length,
    history.utf8(value) as value_utf8,
    value,
    value_bytes as value_length
from entry;

create view history.promise as
select
    promise.at_ms,
    history.text(promise.body, '$.object.scope') as scope,
    history.text(promise.body, '$.object.service') as service,
    history.text(promise.body, '$.object.key') as key,
    history.text(promise.body, '$.promise') as promise,
    history.failure_text(json_extract(promise.body, '$.result')) as failure,
    promise.payload
from fact as promise
left join (
    select
        service,
        key,
        max(lsn) as lsn
    from pending_change
    where kind = 'InvocationPurged'
    group by
        service,
        key
) as purged
    on
        purged.service = concat_ws(
            '/',
            history.text(promise.body, '$.object.scope'),
            history.text(promise.body, '$.object.service')
        )
        and purged.key = history.text(promise.body, '$.object.key')
where
    promise.kind = 'PromiseCompleted'
    and (purged.lsn is null or promise.lsn > purged.lsn);

-- What a live invocation waits for, and nobody has completed yet.
create view history.open_promise as
select distinct
    created.scope,
    created.service,
    created.key,
    history.text(waiting.body, '$.command.key') as promise
from history.kept as waiting
inner join history.created
    on waiting.invocation_id = created.invocation_id
left join history.completed
    on waiting.invocation_id = completed.invocation_id
left join (
    select
        invocation_id,
        history.number(body, '$.notification.completion_id') as completion_id
    from history.kept
    where kind = 'Notification: GetPromise'
) as answer
    on
        waiting.invocation_id = answer.invocation_id
        and history.number(waiting.body, '$.command.completion_id') = answer.completion_id
where
    waiting.kind = 'Command: GetPromise'
    and completed.invocation_id is null
    and answer.invocation_id is null;

create view sys_promise as
select
    scope,
    service as service_name,
    key as service_key,
    promise as key,
    true as completed,
    case when failure is null then payload end as completion_success_value,
    case when failure is null then history.utf8(payload) end as completion_success_value_utf8,
    failure as completion_failure
from history.promise
union all
select
    scope,
    service,
    key,
    promise,
    false,
    null,
    null,
    null
from history.open_promise;

-- name: create_deployment
-- Services, the revisions of their code, and the limits in force.
create view sys_service as
select
    service as name,
    max(revision) as revision,
    len(
        list_filter(
            json_extract(arg_max(body, revision), '$.manifest.handlers[*]'),
            lambda handler: coalesce(history.text(handler, '$.ingress_private'), 'false') = 'false'
        )
    ) > 0 as public,
    arg_max(history.text(body, '$.manifest.type'), revision) as ty,
    history.deployment_id(service, max(revision)) as deployment_id
from history.manifest
group by service;

create view sys_deployment as
select
    history.deployment_id(service, revision) as id,
    'embedded' as ty,
    history.text(body, '$.manifest.origin') as endpoint,
    history.timestamp(at_ms) as created_at,
    cast(null as integer) as min_service_protocol_version,
    cast(null as integer) as max_service_protocol_version,
    [service] as services
from history.manifest;

create view history.settings as
select
    arg_max(json_extract(body, '$.settings.limits'), lsn) as limits,
    max(lsn) as lsn,
    arg_max(at_ms, lsn) as at_ms
from fact
where kind = 'EngineConfigured';

create view history.rule as
select
    '*' as pattern,
    history.number(limits, '$.engine') as concurrency,
    'all attempts' as description,
    lsn,
    at_ms
from history.settings
where json_extract(limits, '$.engine') is not null
union all
select
    rule.key,
    cast(rule.value as bigint),
    'attempts of this service',
    settings.lsn,
    settings.at_ms
from
    history.settings,
    json_each(settings.limits, '$.services') as rule
union all
select
    rule.key,
    cast(rule.value as bigint),
    'attempts in this scope',
    settings.lsn,
    settings.at_ms
from
    history.settings,
    json_each(settings.limits, '$.scopes') as rule;

create view sys_rules as
select
    pattern,
    concurrency,
    description,
    false as disabled,
    lsn as version,
    history.timestamp(at_ms) as last_modified
from history.rule;

-- Restate's newer queues. We have none; its tools ask for them and take an empty table.
create view sys_vqueue_meta as
select
    cast(null as varchar) as id,
    cast(null as boolean) as is_active,
    cast(null as boolean) as queue_is_paused,
    cast(null as varchar) as service_name,
    cast(null as varchar) as scope,
    cast(null as varchar) as limit_key,
    cast(null as varchar) as lock_name,
    cast(null as timestamptz) as created_at,
    cast(null as timestamptz) as last_enqueued_at,
    cast(null as timestamptz) as last_start_at,
    cast(null as timestamptz) as last_attempt_at,
    cast(null as timestamptz) as last_finish_at,
    cast(null as bigint) as num_inbox,
    cast(null as bigint) as num_running,
    cast(null as bigint) as num_suspended,
    cast(null as bigint) as num_paused,
    cast(null as bigint) as num_finished
where false;
