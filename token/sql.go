package token

import (
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/registration"
)

const (
	sqlToken = `select registration_id, app_id, user_id, factors, secret_sealed from token where tenant_id = $1 and id = $2`

	sqlOwner = `select tenant_id, app_id from token where id = $1`

	sqlPurge = `delete from token_nonce where (tenant_id, token_id, nonce) in (
    select tenant_id, token_id, nonce from token_nonce where expires_at < $1 order by expires_at limit $2)`
)

var (
	sqlCreate = `with made as (
    insert into token (tenant_id, id, registration_id, app_id, user_id, factors, secret_sealed, created_at)
    select $1, $2, $3::uuid, $4, $5, $6, $7, $8::timestamptz
    where (select count(*) from token where tenant_id = $1 and registration_id = $3) < $9::integer
    returning id
) ` + audit.After("made", 10)

	sqlRemove = `with gone as (
    delete from token where tenant_id = $1 and id = $2 and registration_id = $3
    returning id
) ` + audit.After("gone", 4)

	// One row, with the registration's flags, when the header is accepted.
	sqlAccept = `with live as (` + registration.ActiveFlags(1, 3) + `), used as (
    insert into token_nonce (tenant_id, token_id, nonce, expires_at)
    select t.tenant_id, t.id, $4::bytea, $5::timestamptz from token t, live where t.tenant_id = $1 and t.id = $2
    on conflict (tenant_id, token_id, nonce) do nothing
    returning 1
) ` + audit.After("used", 6) + ` returning (select flags from live)`
)
