package envelope

const (
	// The table's own key goes before one from before there were purposes.
	sqlPrimary = `select version from dek where tenant_id = $1 and purpose in ($2, '') and state = 'PRIMARY'
		order by purpose desc limit 1`

	sqlLast = `select coalesce(max(version), 0) from dek where tenant_id = $1`

	sqlVersion = `select kek, purpose, sealed from dek where tenant_id = $1 and version = $2`

	// Of several who add at once, one does: the number or the one PRIMARY is taken.
	sqlInsert = `insert into dek (tenant_id, version, purpose, kek, sealed, state, state_at, created_at)
		values ($1, $2, $3, $4, $5, $6, $7, $7) on conflict do nothing`

	// Of DEKs in memory, those that are no more.
	sqlGone = `select g.tenant_id, g.version from unnest($1::text[], $2::integer[]) as g(tenant_id, version)
		where not exists (select from dek d where d.tenant_id = g.tenant_id and d.version = g.version)`
)
