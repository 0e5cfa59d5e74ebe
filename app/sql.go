package app

import "github.com/signet-hsm/signet/audit"

// selectApps shows each application with its newest master key.
const selectApps = `select a.tenant_id, a.id, a.roles, coalesce(m.public, a.master_public), coalesce(m.generation, 0), a.created_at
from app a left join app_master m on m.tenant_id = a.tenant_id and m.app_id = a.id and m.generation = (
    select max(n.generation) from app_master n
    where n.tenant_id = a.tenant_id and n.app_id = a.id and n.state = 'READY')
where a.tenant_id = $1 and a.state = 'READY'`

const (
	sqlIntent = `insert into app (tenant_id, id, state, roles, master_id, created_at)
values ($1, $2, 'CREATING', $3, $4, $5)
on conflict (tenant_id, id) do nothing`

	sqlIntentRead = `select state, master_id, created_at from app where tenant_id = $1 and id = $2`

	// A new intent takes the place of one that was left; the compare keeps a
	// late finisher of the old one from becoming READY.
	sqlIntentFence = `update app set master_id = $4, created_at = $5
where tenant_id = $1 and id = $2 and master_id = $3 and state = 'CREATING'`

	sqlApp = selectApps + ` and a.id = $2`

	sqlApps = selectApps + ` order by a.id`

	sqlMasterPublic = `select public from app_master
where tenant_id = $1 and app_id = $2 and generation = $3 and state = 'READY'
union all
select master_public from app where tenant_id = $1 and id = $2 and state = 'READY' and $3::integer = 0`

	sqlRoles = `select roles from app where tenant_id = $1 and id = $2 and state = 'READY'`

	sqlVersionByKey = `select v.tenant_id, v.app_id, v.name, v.key, v.secret_sealed, v.supported, v.master_generation
from app_version v join app a on a.tenant_id = v.tenant_id and a.id = v.app_id
where v.key = $1 and a.state = 'READY'`

	sqlVersions = `select v.tenant_id, v.app_id, v.name, v.key, v.secret_sealed, v.supported, v.master_generation
from app_version v join app a on a.tenant_id = v.tenant_id and a.id = v.app_id
where v.tenant_id = $1 and v.app_id = $2 and a.state = 'READY' order by v.created_at, v.name`
)

// The application becomes READY with its first version and its event, or not at
// all.
var sqlReady = `with ready as (
    update app set state = 'READY', roles = $4, master_public = $5, ready_at = $6
    where tenant_id = $1 and id = $2 and master_id = $3 and state = 'CREATING'
    returning tenant_id, id
), version as (
    insert into app_version (tenant_id, app_id, name, key, secret_sealed, supported, created_at)
    select tenant_id, id, $7::text, $8::bytea, $9::bytea, true, $6 from ready
    returning 1
) ` + audit.After("version", 10)

// A version is made, called back or taken up again, roles change and a key
// becomes ready together with the event that tells of it, or not at all.
var (
	sqlVersionCreate = `with version as (
    insert into app_version (tenant_id, app_id, name, key, secret_sealed, supported, created_at, master_generation)
    select tenant_id, id, $3::text, $4::bytea, $5::bytea, true, $6::timestamptz, $7::integer
    from app where tenant_id = $1 and id = $2 and state = 'READY'
    returning 1
) ` + audit.After("version", 8)

	sqlVersionSupport = `with changed as (
    update app_version set supported = $4
    where tenant_id = $1 and app_id = $2 and name = $3 and supported <> $4
    returning 1
) ` + audit.After("changed", 5)

	sqlRolesChange = `with changed as (
    update app set roles = $4
    where tenant_id = $1 and id = $2 and state = 'READY' and roles = $3
    returning 1
) ` + audit.After("changed", 5)

	sqlMasterReady = `with ready as (
    update app_master set state = 'READY', public = $5, ready_at = $6
    where tenant_id = $1 and app_id = $2 and generation = $3 and key_id = $4 and state = 'CREATING'
    returning 1
) ` + audit.After("ready", 7)
)

const (
	// The intent of the next generation; nothing while there is one.
	sqlMasterIntent = `insert into app_master (tenant_id, app_id, generation, state, key_id, created_at)
select a.tenant_id, a.id, 1 + coalesce((
    select max(m.generation) from app_master m where m.tenant_id = a.tenant_id and m.app_id = a.id), 0), 'CREATING', $3, $4
from app a where a.tenant_id = $1 and a.id = $2 and a.state = 'READY'
on conflict do nothing`

	sqlMasterIntentRead = `select generation, key_id, created_at from app_master
where tenant_id = $1 and app_id = $2 and state = 'CREATING'`

	// As sqlIntentFence.
	sqlMasterFence = `update app_master set key_id = $5, created_at = $6
where tenant_id = $1 and app_id = $2 and generation = $3 and key_id = $4 and state = 'CREATING'`
)
