package app

import "github.com/signet-hsm/signet/audit"

const (
	sqlIntent = `insert into app (tenant_id, id, state, roles, master_id, created_at)
values ($1, $2, 'CREATING', $3, $4, $5)
on conflict (tenant_id, id) do nothing`

	sqlIntentRead = `select state, master_id, created_at from app where tenant_id = $1 and id = $2`

	// A new intent takes the place of one that was left; the compare keeps a
	// late finisher of the old one from becoming READY.
	sqlIntentFence = `update app set master_id = $4, created_at = $5
where tenant_id = $1 and id = $2 and master_id = $3 and state = 'CREATING'`

	sqlApp = `select tenant_id, id, roles, master_public, created_at
from app where tenant_id = $1 and id = $2 and state = 'READY'`

	sqlVersionByKey = `select v.tenant_id, v.app_id, v.name, v.key, v.secret_sealed, v.supported
from app_version v join app a on a.tenant_id = v.tenant_id and a.id = v.app_id
where v.key = $1 and a.state = 'READY'`

	sqlVersions = `select v.tenant_id, v.app_id, v.name, v.key, v.secret_sealed, v.supported
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
