package outbox

const (
	sqlDead = `select id, args, attempt, finalized_at, to_jsonb(errors[array_length(errors, 1)])
from river_job
where state in ('discarded', 'cancelled') and finalized_at is not null
  and args->'event'->>'tenant' = $1 and ($3::bigint = 0 or id < $3)
order by id desc
limit $2`

	sqlDeadOne = `select id from river_job
where id = $2 and state in ('discarded', 'cancelled') and args->'event'->>'tenant' = $1
for update`
)
