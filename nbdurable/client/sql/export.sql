-- What an export asks of each table; the names in braces are put in from export.py.

-- name: keys
-- What the rows of a table are told apart by, so that they can be asked for page by page.
select distinct {key} as key
from {table}
where
    {key} > $after
    and ($only is null or {key} = $only)
order by key
limit $key_count

-- name: page
-- All rows of some keys.
select {columns}
from {table}
where {key} in (select unnest($keys))

-- name: of_invocation
-- Where else something of one invocation is: at its service, and at its key.
select
    target_service_name as service,
    concat_ws('/', scope, target_service_name, target_service_key) as key
from sys_invocation
where id = $id
