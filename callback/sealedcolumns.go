package callback

import "github.com/signet-hsm/signet/internal/envelope"

// SealedColumns describes what of this package's tables is sealed, for the
// rotation of data keys. A secret that was
// replaced is bound to the same place as the one that replaced it.
func SealedColumns() []envelope.Column {
	return []envelope.Column{
		{
			Table: "callback_endpoint", Column: "secret_sealed",
			Page: `select callback_endpoint.id::text, callback_endpoint.id::text, callback_endpoint.secret_sealed from callback_endpoint
where tenant_id = $1 and id > coalesce(nullif($2, '')::uuid, '00000000-0000-0000-0000-000000000000') order by callback_endpoint.id limit $3`,
			Swap: `update callback_endpoint set secret_sealed = $4 where tenant_id = $1 and id = $2::uuid and secret_sealed = $3`,
		},
		{
			Table: "callback_endpoint", Column: "secret_sealed",
			Page: `select callback_endpoint.id::text, callback_endpoint.id::text, callback_endpoint.previous_sealed from callback_endpoint
where tenant_id = $1 and id > coalesce(nullif($2, '')::uuid, '00000000-0000-0000-0000-000000000000') order by callback_endpoint.id limit $3`,
			Swap: `update callback_endpoint set previous_sealed = $4 where tenant_id = $1 and id = $2::uuid and previous_sealed = $3`,
		},
	}
}
