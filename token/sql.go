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

	// One row, a number and the registration's flags, when the header is accepted.
	sqlAccept = `with live as (` + registration.ActiveFlags(1, 3) + `), used as (
    insert into token_nonce (tenant_id, token_id, nonce, expires_at)
    select t.tenant_id, t.id, $4::bytea, $5::timestamptz from token t, live where t.tenant_id = $1 and t.id = $2
    on conflict (tenant_id, token_id, nonce) do nothing
    returning 1
) ` + audit.After("used", 6) + ` returning 1::bigint, (select flags from live)`

	// Many of one tenant, of different nonces: a row for each that is accepted, its
	// number from 1 and the flags. Its form is that of registration's verdicts, for the
	// same reasons.
	sqlAcceptMany = `with given as (
    select * from unnest((select $2::uuid[]), (select $3::uuid[]), (select $4::bytea[]), (select $5::timestamptz[]))
        with ordinality as g(token_id, registration_id, nonce, expires_at, n)
), live as (
    select g.*, r.flags from given g
    cross join lateral (select from token where tenant_id = $1 and id = g.token_id limit 1) t
    cross join lateral (` + registration.ActiveFlagsOf("$1", "g.registration_id") + ` limit 1) r
    order by g.n
), used as (
    insert into token_nonce (tenant_id, token_id, nonce, expires_at)
    select $1, token_id, nonce, expires_at from live
    on conflict (tenant_id, token_id, nonce) do nothing
    returning token_id, nonce
), won as (
    select l.n, l.flags from live l join used u on u.token_id = l.token_id and u.nonce = l.nonce
), logged as (` + audit.AfterPack("won", "n", "(select count(*) from won) = cardinality($2::uuid[])", 6) + `)
select n, flags from won`
)
