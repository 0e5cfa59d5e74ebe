package token

import "github.com/signet-hsm/signet/internal/envelope"

// SealedColumns describes what of this package's tables is sealed, for the
// rotation of data keys.
func SealedColumns() []envelope.Column {
	return []envelope.Column{
		{
			Table: "token", Column: "secret_sealed",
			Page: `select token.id::text, token.id::text || '/' || token.registration_id::text, token.secret_sealed from token
where tenant_id = $1 and id > coalesce(nullif($2, '')::uuid, '00000000-0000-0000-0000-000000000000') order by token.id limit $3`,
			Swap: `update token set secret_sealed = $4 where tenant_id = $1 and id = $2::uuid and secret_sealed = $3`,
		},
	}
}
