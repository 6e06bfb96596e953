-- The in-memory instance of DuckDB that a journal's files are attached to: what is set, and how the
-- files come and go.

-- name: begin_instance
-- No checkpoint that we do not place; no bar, which would be printed into somebody's cell; and one
-- time zone, or what SQL shows of a journal would depend on where it is looked at.
pragma disable_checkpoint_on_shutdown;
set enable_progress_bar = false;
set global TimeZone = 'UTC';

-- name: limit_question
-- The memory of one user's query, on the cursor that answers it.
set operator_memory_limit = $memory_limit;

-- name: plan_plainly
-- Of the statements of one cursor: each is executed as it was written.
pragma disable_optimizer;

-- name: lock_instance
-- What is attached is all that can be reached from now on.
set enable_external_access = false;
set lock_configuration = true;

-- name: attach_base
-- Files that DuckDB 1.5 can read too: a way back from the 2.0 series, at no cost measured.
attach $path as base (storage_version 'v1.5.0');

-- name: attach_hot
-- The same.
attach $path as hot (storage_version 'v1.5.0');

-- name: read_base
-- To look at it before anything is modified.
attach $path as base (read_only);

-- name: read_hot
-- The same.
attach $path as hot (read_only);

-- name: read_aside
-- A copy of either, of a journal that cannot be opened.
attach $path as aside (read_only);

-- name: attach_copy
-- The file that either is copied to.
attach $path as copy (storage_version 'v1.5.0');

-- name: copy_base
-- With what is in its write-ahead log.
copy from database base to copy;

-- name: copy_hot
-- The same.
copy from database hot to copy;

-- name: leave_copy
-- Whole, with nothing in a write-ahead log.
checkpoint copy;
detach copy;

-- name: checkpoint_base
-- Move its write-ahead log into it.
checkpoint base;

-- name: checkpoint_hot
-- The same.
checkpoint hot;

-- name: detach_base
-- Its file is closed.
detach base;

-- name: detach_hot
-- The same.
detach hot;

-- name: serialize_query
-- A user's query as a tree, to be looked through.
select json_serialize_sql($sql);
