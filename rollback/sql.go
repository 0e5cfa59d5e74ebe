package rollback

const (
	// Counts the node's row up, and answers what it stands at: what it found, made
	// negative, when that is behind what the node had seen; null without a row. A
	// number that was written although nobody heard of it is taken over.
	sqlBeat = `with beat as (
    update rollback_mark set seq = seq + 1, beaten_at = now() where node = $1 and seq >= $2 returning seq
)
select coalesce((select seq from beat), (select -seq from rollback_mark where node = $1)), now()`

	// The first beat of a new node.
	sqlFirst = `insert into rollback_mark (node, seq, beaten_at) values ($1, 1, now())
on conflict (node) do update set seq = rollback_mark.seq + 1, beaten_at = now()
returning seq, now()`

	sqlSeq = `select seq from rollback_mark where node = $1`

	// Goes beyond everything the node has seen.
	sqlJump = `insert into rollback_mark (node, seq, beaten_at) values ($1, $2, now())
on conflict (node) do update set seq = greatest(excluded.seq, rollback_mark.seq + 1), beaten_at = now()
returning seq, now()`

	// Whether a hold was stored since this node was last here: then what it found is
	// the same step back.
	sqlExplained = `select exists (select from rollback_hold where detected_at > $1)`

	sqlHoldAll = `insert into rollback_hold (tenant_id, detected_at, node, expected, found)
select id, now(), $1, $2, $3 from tenant where id <> '_system'
returning tenant_id`

	// What is held, and what was released so lately that old messages may still come.
	sqlHolds = `select tenant_id, max(detected_at), bool_or(released_at is null)
from rollback_hold where released_at is null or detected_at > now() - $1::interval
group by tenant_id`

	sqlList = `select h.tenant_id, h.detected_at, h.node, h.expected, h.found, coalesce(h.advance, 0), h.released_at
from rollback_hold h order by h.detected_at desc, h.tenant_id limit $1`

	sqlMarks = `select node, seq, beaten_at from rollback_mark order by beaten_at desc limit $1`

	sqlOpen = `select detected_at, advance, cursor from rollback_hold
where tenant_id = $1 and released_at is null order by detected_at for update`

	sqlProgress = `update rollback_hold set advance = $2, cursor = $3 where tenant_id = $1 and released_at is null`

	sqlRelease = `update rollback_hold set released_at = now() where tenant_id = $1 and released_at is null`
)
