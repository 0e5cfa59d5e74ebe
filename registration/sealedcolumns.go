package registration

import "github.com/signet-hsm/signet/internal/envelope"

// SealedColumns describes what of this package's tables is sealed, for the
// rotation of data keys. Temporary keys are gone by themselves after minutes.
func SealedColumns() []envelope.Column {
	return []envelope.Column{
		{
			Table: "registration", Column: "server_private_sealed",
			Page: `select registration.id::text, registration.id::text, registration.server_private_sealed from registration
where tenant_id = $1 and id > coalesce(nullif($2, '')::uuid, '00000000-0000-0000-0000-000000000000') order by registration.id limit $3`,
			Swap: `update registration set server_private_sealed = $4 where tenant_id = $1 and id = $2::uuid and server_private_sealed = $3`,
		},
		{
			Table: "registration", Column: "master_secret_sealed",
			Page: `select registration.id::text, registration.id::text, registration.master_secret_sealed from registration
where tenant_id = $1 and id > coalesce(nullif($2, '')::uuid, '00000000-0000-0000-0000-000000000000') order by registration.id limit $3`,
			Swap: `update registration set master_secret_sealed = $4 where tenant_id = $1 and id = $2::uuid and master_secret_sealed = $3`,
		},
		{
			Table: "temporary_key", Column: "private_sealed",
			Page: `select temporary_key.id::text, temporary_key.id::text, temporary_key.private_sealed from temporary_key
where tenant_id = $1 and id > coalesce(nullif($2, '')::uuid, '00000000-0000-0000-0000-000000000000') order by temporary_key.id limit $3`,
		},
	}
}
