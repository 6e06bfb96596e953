-- What SQL users see of journals: sys_journal and sys_journal_events. See views.sql.
--
-- Source: restate-semantics.md, 3.3; restate-cli-calls.md, "Journal rows" (shapes of entry_json).

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
        when history.number(result, '$.value.bytes') = 0
            then json_object('Success', cast('[]' as json))
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
                        'handler_ty', if(type.handler = 'shared', 'Shared', 'Exclusive'),
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
                        'handler_ty', if(type.handler = 'shared', 'Shared', 'Workflow'),
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

-- A signal is known by a number, or by the name that a handler has given it.
create macro history.json_signal_id(number, name) as
    case
        when name is null then json_object('Index', number)
        else json_object('Name', name)
    end;

create macro history.json_request(command, types, payload) as
    -- What is null is taken out by the second: most have no limit key, and Restate leaves it out.
    json_merge_patch(
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
            'idempotency_key', json_extract(command, '$.idempotency_key')
        ),
        json_object('limit_key', json_extract(command, '$.limit_key'))
    );

-- What a command says, in Restate's words where these are other than ours. No null but where Restate
-- has one.
create macro history.json_command(kind, command, types, payload) as
    case kind
        when 'Command: Call'
            then
                json_object(
                    'request', history.json_request(command, types, payload),
                    'result_completion_id', json_extract(command, '$.completion_id'),
                    'name', coalesce(json_extract(command, '$.name'), '""')
                )
        when 'Command: OneWayCall'
            then
                json_object(
                    'request', history.json_request(command, types, payload),
                    'invoke_time', coalesce(json_extract(command, '$.invoke_at_ms'), '0'),
                    'name', coalesce(json_extract(command, '$.name'), '""')
                )
        when 'Command: AttachInvocation'
            then
                json_object(
                    'target',
                    json_object('InvocationId', json_extract(command, '$.invocation_id')),
                    'completion_id', json_extract(command, '$.completion_id'),
                    'name', coalesce(json_extract(command, '$.name'), '""')
                )
        when 'Command: Sleep'
            then
                json_object(
                    'wake_up_time', json_extract(command, '$.wake_up_at_ms'),
                    'completion_id', json_extract(command, '$.completion_id'),
                    'name', coalesce(json_extract(command, '$.name'), '""')
                )
        when 'Command: GetEagerState'
            then
                json_object(
                    'key', json_extract(command, '$.key'),
                    'result',
                    case
                        when json_extract(command, '$.value') is null then '"Void"'
                        else json_object('Success', history.json_bytes(payload))
                    end,
                    'name', coalesce(json_extract(command, '$.name'), '""')
                )
        when 'Command: GetEagerStateKeys'
            then
                json_object(
                    'state_keys', coalesce(json_extract(command, '$.keys'), '[]'),
                    'name', coalesce(json_extract(command, '$.name'), '""')
                )
        when 'Command: CompletePromise'
            then
                json_object(
                    'key', json_extract(command, '$.key'),
                    'value', history.json_result(json_extract(command, '$.result'), payload),
                    'completion_id', json_extract(command, '$.completion_id'),
                    'name', coalesce(json_extract(command, '$.name'), '""')
                )
        when 'Command: CompleteAwakeable'
            then
                json_object(
                    'id', json_extract(command, '$.awakeable_id'),
                    'result', history.json_result(json_extract(command, '$.result'), payload),
                    'name', coalesce(json_extract(command, '$.name'), '""')
                )
        when 'Command: SendSignal'
            then
                json_object(
                    'target_invocation_id', json_extract(command, '$.invocation_id'),
                    'signal_id',
                    history.json_signal_id(
                        json_extract(command, '$.signal_id'),
                        json_extract(command, '$.signal_name')
                    ),
                    'result',
                    coalesce(
                        history.json_result(json_extract(command, '$.result'), payload),
                        '"Void"'
                    ),
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
                    end
                )
            )
    end;

-- What a completion brings: nothing for a sleep, and no value where there is none to bring.
create macro history.json_completion(kind, notification, payload) as
    case
        when kind = 'Notification: Sleep'
            then
                json_object('completion_id', json_extract(notification, '$.completion_id'))
        when
            kind in ('Notification: PeekPromise', 'Notification: CompletePromise')
            and history.number(notification, '$.result.value.bytes') = 0
            then
                json_object(
                    'completion_id', json_extract(notification, '$.completion_id'),
                    'result', 'Void'
                )
        else
            json_object(
                'completion_id', json_extract(notification, '$.completion_id'),
                'result',
                history.json_result(json_extract(notification, '$.result'), payload)
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
        when journal.kind in ('InvocationCreated', 'InvocationCompleted') then ''
        when journal.kind in ('Command: Run', 'Command: Sleep') then coalesce(journal.name, '')
        when journal.kind = 'Notification: Signal' then journal.name
        when journal.kind like 'Command: %'
            then coalesce(history.text(journal.body, '$.command.name'), '')
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
                                history.json_signal_id(
                                    json_extract(journal.body, '$.notification.signal_id'),
                                    json_extract(journal.body, '$.notification.name')
                                ),
                                'result',
                                case
                                    -- Those below 17 are Restate's own, and say all by being sent.
                                    when
                                        history.number(
                                            journal.body, '$.notification.signal_id'
                                        ) < 17
                                        then '"Void"'
                                    else
                                        history.json_result(
                                            json_extract(journal.body, '$.notification.result'),
                                            journal.payload
                                        )
                                end
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
                            history.json_completion(
                                journal.kind,
                                json_extract(journal.body, '$.notification'),
                                journal.payload
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
        case
            when kind in ('AttemptFailed', 'RunAttemptFailed') then json_extract(body, '$.error')
        end
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

-- What handlers and steps have printed; not one of Restate's tables.
create view output as
select
    invocation_id as id,
    history.number(body, '$.attempt') as attempt,
    history.number(body, '$.entry_count') - 1 as after_journal_entry_index,
    history.text(body, '$.stream') as stream,
    history.utf8(payload) as value_utf8,
    payload as value,
    history.timestamp(at_ms) as appended_at,
    lsn
from history.kept
where kind = 'OutputWritten';
