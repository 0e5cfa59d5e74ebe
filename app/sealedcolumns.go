package app

import "github.com/signet-hsm/signet/internal/envelope"

// SealedColumns describes what of this package's tables is sealed, for the
// rotation of data keys.
func SealedColumns() []envelope.Column {
	return []envelope.Column{
		{
			Table: "app_version", Column: "secret_sealed",
			Page: `select encode(key, 'hex'), encode(key, 'hex'), secret_sealed from app_version
where tenant_id = $1 and key > decode($2, 'hex') order by key limit $3`,
			Swap: `update app_version set secret_sealed = $4 where tenant_id = $1 and key = decode($2, 'hex') and secret_sealed = $3`,
		},
	}
}
