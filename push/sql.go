package push

import (
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/pg"
)

const (
	sqlSetDevice = `insert into push_device (tenant_id, registration_id, app_id, platform, token_sealed, changed_at)
values ($1, $2, $3, $4, $5, $6)
on conflict (tenant_id, registration_id) do update
set app_id = excluded.app_id, platform = excluded.platform, token_sealed = excluded.token_sealed, changed_at = excluded.changed_at`

	sqlRemoveDevice = `delete from push_device where tenant_id = $1 and registration_id = $2`

	sqlPruneDevice = `delete from push_device where tenant_id = $1 and registration_id = $2 and changed_at = $3`

	sqlDevice = `select app_id, platform, token_sealed, changed_at from push_device where tenant_id = $1 and registration_id = $2`

	sqlDevices = `select registration_id::text from push_device where tenant_id = $1 and registration_id = any ($2::text[]::uuid[])`

	sqlSetCredential = `insert into push_credential (tenant_id, app_id, platform, sealed, revision, changed_at)
values ($1, $2, $3, $4, 1, $5)
on conflict (tenant_id, app_id, platform) do update
set sealed = excluded.sealed, revision = push_credential.revision + 1, changed_at = excluded.changed_at`

	sqlCredential = `select sealed, revision from push_credential where tenant_id = $1 and app_id = $2 and platform = $3`

	sqlPost = `insert into push_inbox (tenant_id, app_id, user_id, id, subject, summary, body, type, created_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`

	// What is read goes first, and of that the oldest. A post beside this one may
	// leave the inbox one too long; the next post finds that. Materialized: a plan
	// may run a subquery in the condition again for each row, and find others.
	sqlCrop = `with surplus as materialized (
    select id from push_inbox where tenant_id = $1 and app_id = $2 and user_id = $3
    order by read_at is null, id
    limit greatest(0, (select count(*) from push_inbox where tenant_id = $1 and app_id = $2 and user_id = $3) - $4)
    for update skip locked)
delete from push_inbox where tenant_id = $1 and app_id = $2 and user_id = $3 and id in (select id from surplus)`

	// Of all tenants, as the sweep is.
	sqlPurge = `with old as materialized (
    select tenant_id, app_id, user_id, id from push_inbox where created_at < $1
    order by created_at limit $2 for update skip locked)
delete from push_inbox where (tenant_id, app_id, user_id, id) in (select tenant_id, app_id, user_id, id from old)`

	sqlInbox = `select id::text, app_id, user_id, subject, summary, '', type, created_at, read_at
from push_inbox where tenant_id = $1 and app_id = $2 and user_id = $3 and id < $4 and (read_at is null or not $5)
order by id desc offset $6 limit $7`

	sqlMessage = `select id::text, app_id, user_id, subject, summary, body, type, created_at, read_at
from push_inbox where tenant_id = $1 and app_id = $2 and user_id = $3 and id = $4`

	sqlUnread = `select count(*) from push_inbox
where tenant_id = $1 and app_id = $2 and user_id = $3 and read_at is null`

	sqlReadAll = `update push_inbox set read_at = $4
where tenant_id = $1 and app_id = $2 and user_id = $3 and read_at is null`

	sqlRead = `update push_inbox set read_at = coalesce(read_at, $5)
where tenant_id = $1 and app_id = $2 and user_id = $3 and id = $4`
)

func collectIDs(rows pgx.Rows) ([]string, error) {
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, pg.Unavailable(fmt.Errorf("push: devices: %w", err))
	}
	return ids, nil
}
