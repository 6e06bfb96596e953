-- What SQL users see: Restate's introspection tables, as views over the facts.
--
-- Names, columns and words are Restate's, so that a query written on a notebook's journal also runs
-- on a cluster. What our facts cannot say is null with the right type. The views are exact for base
-- and hot together, within one snapshot; nothing here asks the clock, so they hold in virtual time.
-- The engine and the widgets never read them: they know the state.
--
-- The schema `history` holds what they are made of (history.sql); the two tables of journals are in
-- journal.sql.
--
-- Source: restate-semantics.md, 3.3 (tables and columns) and 4 (stored and shown statuses);
-- restate-http-observed.md, "SQL"; restate-cli-calls.md, "SQL".

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
    invoked_by_id,
    invoked_by_subscription_id,
    invoked_by_service_name,
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
    last_failure_related_command_index,
    last_failure_related_command_name,
    last_failure_related_command_type,
    last_failure_related_entry_index,
    last_failure_related_entry_name,
    last_failure_related_entry_type,
    last_awaiting_on_future_json
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
        -- Else it was cleared: by a handler, or by whoever edits by hand.
        change.digest is not null
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
    arg_max(id, revision) as deployment_id
from history.deployment
group by service;

create view sys_deployment as
select
    id,
    'embedded' as ty,
    history.text(body, '$.manifest.origin') as endpoint,
    history.timestamp(at_ms) as created_at,
    cast(null as integer) as min_service_protocol_version,
    cast(null as integer) as max_service_protocol_version,
    [service] as services
from history.deployment;

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
    cast(null as interval) as avg_queue_duration,
    cast(null as interval) as avg_inbox_duration,
    cast(null as interval) as avg_run_duration,
    cast(null as interval) as avg_suspension_duration,
    cast(null as interval) as avg_end_to_end_duration,
    cast(null as interval) as avg_blocked_on_concurrency_rules,
    cast(null as interval) as avg_blocked_on_invoker_concurrency,
    cast(null as interval) as avg_blocked_on_invoker_throttling,
    cast(null as interval) as avg_blocked_on_lock,
    cast(null as bigint) as num_inbox,
    cast(null as bigint) as num_running,
    cast(null as bigint) as num_suspended,
    cast(null as bigint) as num_paused,
    cast(null as bigint) as num_finished
where false;
