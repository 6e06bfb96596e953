-- What is looked up in the journal itself, because the engine keeps it for live invocations only.

-- name: last_trace
-- The traceback of the newest attempt of an invocation that failed.
select event_json ->> '$.error_stacktrace' as stacktrace
from sys_journal_events
where
    id = $id
    and event_type = 'TransientError'
order by
    appended_at desc,
    after_journal_entry_index desc
limit 1
