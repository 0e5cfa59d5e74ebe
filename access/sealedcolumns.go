package access

import "github.com/signet-hsm/signet/internal/envelope"

// SealedColumns describes what of this package's tables is sealed, for the
// rotation of data keys.
func SealedColumns() []envelope.Column {
	return []envelope.Column{
		{
			Table: "access_pepper", Column: "sealed",
			Page: `select version::text, version::text, sealed from access_pepper
where tenant_id = $1 and version > coalesce(nullif($2, '')::integer, 0) order by access_pepper.version limit $3`,
			Swap: `update access_pepper set sealed = $4 where tenant_id = $1 and version = $2::integer and sealed = $3`,
		},
	}
}
