package push

import "github.com/signet-hsm/signet/internal/envelope"

// SealedColumns describes what of this package's tables is sealed, for the
// rotation of data keys.
func SealedColumns() []envelope.Column {
	return []envelope.Column{
		{
			Table: "push_device", Column: "token_sealed",
			Page: `select push_device.registration_id::text, push_device.registration_id::text, push_device.token_sealed from push_device
where tenant_id = $1 and registration_id > coalesce(nullif($2, '')::uuid, '00000000-0000-0000-0000-000000000000') order by push_device.registration_id limit $3`,
			Swap: `update push_device set token_sealed = $4 where tenant_id = $1 and registration_id = $2::uuid and token_sealed = $3`,
		},
		{
			Table: "push_credential", Column: "sealed",
			Page: `select platform || ':' || app_id, platform || ':' || app_id, sealed from push_credential
where tenant_id = $1 and platform || ':' || app_id > $2 order by 1 limit $3`,
			Swap: `update push_credential set sealed = $4 where tenant_id = $1 and platform || ':' || app_id = $2 and sealed = $3`,
		},
	}
}
