-- The queries of Restate's CLI that DuckDB reads otherwise than DataFusion, which the CLI writes for.
--
-- All its other queries are answered as they come. Each of these has two texts: what the CLI asks,
-- word for word, and the same in DuckDB's words. `{names}` stands for one or more literals, `{filter}`
-- for any condition; both are carried over as they are, and what results is checked like any query.
--
-- Source: restate-cli-calls.md, "SQL".

-- name: pending_of_handlers
-- `services status`: what is queued, by handler. `first_value` is no aggregate in DuckDB.
-- asked:
select
    target_service_name,
    target_handler_name,
    'pending' as status,
    count(1) as num_invocations,
    min(created_at) as oldest_at,
    first_value(id order by created_at asc) as oldest_invocation
from sys_invocation_status
where
    status == 'inboxed'
    and target_service_name in ({names})
group by
    target_service_name,
    target_handler_name
-- in DuckDB:
select
    target_service_name,
    target_handler_name,
    'pending' as status,
    count(1) as num_invocations,
    min(created_at) as oldest_at,
    first(id order by created_at asc) as oldest_invocation
from sys_invocation_status
where
    status = 'inboxed'
    and target_service_name in ({names})
group by
    target_service_name,
    target_handler_name

-- name: statuses_of_handlers
-- `services status`: how many are in which status, by handler. For the same reason.
-- asked:
select
    target_service_name,
    target_handler_name,
    status,
    count(1) as num_invocations,
    min(created_at) as oldest_at,
    first_value(id order by created_at asc) as oldest_invocation
from sys_invocation
where target_service_name in ({names})
group by
    target_service_name,
    target_handler_name,
    status
order by target_handler_name
-- in DuckDB:
select
    target_service_name,
    target_handler_name,
    status,
    count(1) as num_invocations,
    min(created_at) as oldest_at,
    first(id order by created_at asc) as oldest_invocation
from sys_invocation
where target_service_name in ({names})
group by
    target_service_name,
    target_handler_name,
    status
order by target_handler_name

-- name: holders_of_keys
-- `services status`: who holds the lock of which key. All that is first is said of the same one here.
-- asked:
select
    target_service_name as service_name,
    target_service_key as service_key,
    status as invocation_status,
    first_value(id) as invocation_holding_lock,
    first_value(target_handler_name) as invocation_method_holding_lock,
    first_value(created_at) as invocation_created_at,
    first_value(modified_at) as modified_at,
    first_value(pinned_deployment_id) as pinned_deployment_id,
    first_value(last_attempt_deployment_id) as last_attempt_deployment_id,
    first_value(last_failure) as last_failure_message,
    first_value(next_retry_at) as next_retry_at,
    first_value(last_start_at) as last_start_at,
    0 as num_pending,
    sum(retry_count) as num_retries
from sys_invocation
where
    status != 'pending'
    and target_service_name in ({names})
group by
    target_service_name,
    target_service_key,
    status
-- in DuckDB:
select
    target_service_name as service_name,
    target_service_key as service_key,
    status as invocation_status,
    first(id order by created_at, id) as invocation_holding_lock,
    first(target_handler_name order by created_at, id) as invocation_method_holding_lock,
    first(created_at order by created_at, id) as invocation_created_at,
    first(modified_at order by created_at, id) as modified_at,
    first(pinned_deployment_id order by created_at, id) as pinned_deployment_id,
    first(last_attempt_deployment_id order by created_at, id) as last_attempt_deployment_id,
    first(last_failure order by created_at, id) as last_failure_message,
    first(next_retry_at order by created_at, id) as next_retry_at,
    first(last_start_at order by created_at, id) as last_start_at,
    0 as num_pending,
    sum(retry_count) as num_retries
from sys_invocation
where
    status != 'pending'
    and target_service_name in ({names})
group by
    target_service_name,
    target_service_key,
    status

-- name: total_of_a_list
-- `invocations list`: how many there are. An alias within a subquery is none outside of it in DuckDB.
-- asked:
select count(1)
from (select * from sys_invocation inv limit 50000)
where {filter}
-- in DuckDB:
select count(1)
from (select * from sys_invocation limit 50000) as inv
where {filter}
