package envelope

const (
	sqlNewest = `select max(version) from dek where tenant_id = $1`

	sqlVersion = `select kek, sealed from dek where tenant_id = $1 and version = $2`

	sqlInsert = `insert into dek (tenant_id, version, kek, sealed, created_at) values ($1, $2, $3, $4, $5)
		on conflict (tenant_id, version) do nothing`
)
