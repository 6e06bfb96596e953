-- What Restate's CLI asks and DuckDB answers as it comes: one query per paragraph, word for word.
-- Source: restate-cli-calls.md, "SQL".

SELECT id FROM sys_invocation inv WHERE {filter} ORDER BY inv.created_at DESC, inv.id LIMIT 100

SELECT inv.id, inv.target, inv.target_service_ty, inv.idempotency_key, inv.status, inv.created_at,
inv.modified_at as state_modified_at, inv.pinned_deployment_id, inv.retry_count as num_retries,
inv.last_failure as last_failure_message, inv.last_failure_related_entry_index as
last_failure_entry_index, inv.last_failure_related_entry_name as last_failure_entry_name,
inv.last_failure_related_entry_type as last_failure_entry_ty, inv.last_attempt_deployment_id,
inv.last_attempt_server, inv.next_retry_at, inv.last_start_at, inv.invoked_by_id,
inv.invoked_by_target, inv.trace_id, inv.completion_result, inv.completion_failure, dp.id IS NOT
NULL as pinned_deployment_exists FROM sys_invocation inv LEFT JOIN sys_deployment dp ON dp.id =
inv.pinned_deployment_id WHERE {filter} AND inv.id in ('inv_1','inv_2') ORDER BY inv.created_at
DESC, inv.id

SELECT id, target FROM sys_invocation_status WHERE {target} AND status != 'completed' LIMIT 500

SELECT id, target FROM sys_invocation_status WHERE {target} AND status = 'completed' LIMIT 500

SELECT id, target FROM sys_invocation_status WHERE {target} AND status IN ('paused', 'invoked',
'suspended') LIMIT 500

SELECT sj.index, sj.entry_type, sj.completed, sj.invoked_id, sj.invoked_target, sj.sleep_wakeup_at,
sj.name, sj.promise_name, sj.version, sj.entry_json, sj.appended_at FROM sys_journal sj WHERE
sj.id = 'inv_1' ORDER BY index DESC LIMIT 100

select key, value from state where service_name = 'Counter' and service_key = 'a' ;

SELECT service_name, service_key, key, value FROM state WHERE service_name = 'Counter'

SELECT service_name, service_key, COUNT(1) as num_pending FROM sys_inbox WHERE service_name IN
('Counter','Greeter') GROUP BY service_name, service_key ORDER BY num_pending DESC

SELECT COUNT(1) AS inv_count FROM sys_invocation_status WHERE pinned_deployment_id = 'dp_1' AND
status != 'completed'

SELECT target_service_name as service, target_handler_name as handler, COUNT(1) AS inv_count FROM
sys_invocation_status WHERE pinned_deployment_id = 'dp_1' AND status != 'completed' GROUP BY
pinned_deployment_id, target_service_name, target_handler_name

SELECT pattern, concurrency, description, disabled, version, last_modified FROM sys_rules ORDER BY
pattern

SELECT id, is_active, queue_is_paused, service_name, scope, limit_key, lock_name, created_at,
last_enqueued_at, last_start_at, last_attempt_at, last_finish_at, num_inbox, num_running,
num_suspended, num_paused, num_finished FROM sys_vqueue_meta LIMIT 100
