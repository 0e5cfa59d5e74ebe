package audit

// A tenant is found by its events, with one probe of the primary key each; a
// tenant without a head row yet has an empty one.
const sqlHeads = `with recursive t (id) as (
    select least((select min(tenant_id) from audit_event), (select min(tenant_id) from audit_pack))
    union all
    select least((select min(e.tenant_id) from audit_event e where e.tenant_id > t.id),
                 (select min(p.tenant_id) from audit_pack p where p.tenant_id > t.id))
    from t where t.id is not null
)
select t.id, coalesce(h.seq, 0), h.hash, coalesce(h.mark, '00000000-0000-0000-0000-000000000000'),
       coalesce(h.holder, ''), coalesce(h.held_until > now(), false)
from t left join audit_head h on h.tenant_id = t.id
where t.id is not null`

// The second bound on event_id lets both indexes be read from the same place.
const sqlUnsealed = `select u.* from (
    (select e.id, e.at, e.action, e.actor, e.subject, e.user_id, e.app_id, e.outcome, e.detail,
        null::uuid as first_id, null::text[] as users, null::text[] as apps, null::text as events
    from audit_event e
    where e.tenant_id = $1 and e.id >= $2 and not exists (
        select 1 from audit_chain c where c.tenant_id = $1 and c.event_id >= $2 and c.event_id = e.id)
    order by e.id limit $3)
    union all
    (select p.id, null, '', '', '', '', '', '', null, p.first_id, p.users, p.apps, p.events
    from audit_pack p
    where p.tenant_id = $1 and p.id >= $2 and not exists (
        select 1 from audit_chain c where c.tenant_id = $1 and c.event_id >= $2 and c.event_id = p.id)
    order by p.id limit $3)
) u order by u.id limit $3`

const sqlHeadCreate = `insert into audit_head (tenant_id, seq, hash, mark, holder, held_until)
values ($1, 0, $2, $3, '', now())
on conflict (tenant_id) do nothing`

const sqlLease = `update audit_head set holder = $2, held_until = now() + $3::bigint * interval '1 millisecond'
where tenant_id = $1 and (holder = $2 or held_until <= now())
returning tenant_id, seq, hash, mark, holder, true`

const sqlRelease = `update audit_head set held_until = now() where holder = $1 and held_until > now()`

// The head moves and the links are written, or neither.
const sqlAppend = `with moved as (
    update audit_head set seq = $4, hash = $5, mark = $6, held_until = now() + $8::bigint * interval '1 millisecond'
    where tenant_id = $1 and seq = $2 and hash = $3 and holder = $7
    returning tenant_id
), written as (
    insert into audit_chain (tenant_id, seq, event_id, hash)
    select m.tenant_id, $2 + n.pos, n.event_id, n.hash
    from moved m, unnest($9::uuid[], $10::bytea[]) with ordinality as n (event_id, hash, pos)
    returning 1
)
select (select count(*) from moved), (select count(*) from written)`

const sqlCheckpointInsert = `insert into audit_checkpoint (tenant_id, number, seq, hash, mark, at, previous, key_label, signature)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
on conflict (tenant_id, number) do nothing`

const sqlCheckpointLast = `select tenant_id, number, seq, hash, mark, at, previous, key_label, signature
from audit_checkpoint where tenant_id = $1 order by number desc limit 1`

// Of Verify.
const (
	sqlCheckpoints = `select tenant_id, number, seq, hash, mark, at, previous, key_label, signature
from audit_checkpoint where tenant_id = $1 and number > $2 order by number limit $3`

	sqlHead = `select coalesce((select max(seq) from audit_chain where tenant_id = $1), 0),
       h.tenant_id, h.seq, h.hash, h.mark, h.holder, h.held_until > now()
from audit_head h where h.tenant_id = $1`

	sqlLongest = `select coalesce(max(seq), 0) from audit_chain where tenant_id = $1`

	sqlLinks = `select c.seq, c.event_id, c.hash, e.id is not null or p.id is not null, e.at, coalesce(e.action, ''), coalesce(e.actor, ''),
       coalesce(e.subject, ''), coalesce(e.user_id, ''), coalesce(e.app_id, ''), coalesce(e.outcome, ''), e.detail,
       p.first_id, p.users, p.apps, p.events
from audit_chain c
    left join audit_event e on e.tenant_id = c.tenant_id and e.id = c.event_id
    left join audit_pack p on p.tenant_id = c.tenant_id and p.id = c.event_id
where c.tenant_id = $1 and c.seq > $2 and c.seq <= $3
order by c.seq limit $4`

	// One page of events and packs, in the order of ids, and whether the chain has each.
	sqlMembers = `select m.id, c.seq is not null
from (select u.id from (
        (select id from audit_event where tenant_id = $1 and id > $2 order by id limit $3)
        union all
        (select id from audit_pack where tenant_id = $1 and id > $2 order by id limit $3)
    ) u order by u.id limit $3) m
left join audit_chain c on c.tenant_id = $1 and c.event_id = m.id
order by m.id`

	sqlTenants = `with recursive t (id) as (
    select least((select min(tenant_id) from audit_event), (select min(tenant_id) from audit_pack))
    union all
    select least((select min(e.tenant_id) from audit_event e where e.tenant_id > t.id),
                 (select min(p.tenant_id) from audit_pack p where p.tenant_id > t.id))
    from t where t.id is not null
)
select id from t where id is not null union select tenant_id from audit_head order by 1`
)
