package operation

import "github.com/signet-hsm/signet/internal/envelope"

// SealedColumns describes what of this package's tables is sealed, for the
// rotation of data keys.
func SealedColumns() []envelope.Column {
	return []envelope.Column{
		{
			Table: "operation", Column: "proximity_seed",
			Page: `select operation.id::text, operation.id::text, operation.proximity_seed from operation
where tenant_id = $1 and id > coalesce(nullif($2, '')::uuid, '00000000-0000-0000-0000-000000000000') order by operation.id limit $3`,
			Swap: `update operation set proximity_seed = $4 where tenant_id = $1 and id = $2::uuid and proximity_seed = $3`,
		},
	}
}
