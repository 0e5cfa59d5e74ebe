package registration

import (
	"strconv"

	"github.com/signet-hsm/signet/audit"
)

const columns = `tenant_id, id, app_id, user_id, activation_code, state, otp_mode, otp_hash,
flags, name, platform, device_info, device_public_key, server_public_key,
failed_attempts, max_failed_attempts, blocked_reason, revision, expires_at, created_at, last_used_at`

const (
	sqlByID = `select ` + columns + ` from registration where tenant_id = $1 and id = $2`

	sqlByCode = `select ` + columns + ` from registration
where tenant_id = $1 and app_id = $2 and activation_code = $3 and state = 'CREATED'`

	sqlInProgress = `select ` + columns + ` from registration
where tenant_id = $1 and app_id = $2 and user_id = $3 and state in ('CREATED', 'PENDING_COMMIT')`

	sqlByUser = `select ` + columns + ` from registration
where tenant_id = $1 and user_id = $2 and app_id = any($3) and state <> 'REMOVED'
order by created_at desc, id limit $4`

	sqlActive = `select ` + columns + ` from registration
where tenant_id = $1 and user_id = $2 and app_id = any($3) and state = 'ACTIVE'
    and ($4 = '' or $4 = any(flags)) and ($5::uuid is null or id = $5)
order by created_at desc, id limit $6`

	sqlServerPrivate = `select server_private_sealed, state from registration where tenant_id = $1 and id = $2`

	// A message in activation scope is opened with this.
	sqlSealed = `select app_id, state, master_secret_sealed, server_private_sealed from registration
where tenant_id = $1 and id = $2`

	// A status request names no application, so no tenant either.
	sqlAnywhere = `select tenant_id, app_id, user_id, state, master_secret_sealed, ctr_data, counter,
failed_attempts, max_failed_attempts, revision, expires_at, advanced_to from registration where id = $1`

	sqlUseNonce = `insert into used_nonce (tenant_id, type, identifier, value, expires_at)
values ($1, $2, $3, $4, $5) on conflict (tenant_id, type, identifier, value) do nothing`

	sqlKeepTemporary = `insert into temporary_key (tenant_id, id, app_key, registration_id, private_sealed, expires_at, created_at)
values ($1, $2, $3, $4, $5, $6, $7)`

	sqlTemporary = `select private_sealed from temporary_key
where tenant_id = $1 and id = $2 and app_key = $3 and registration_id is not distinct from $4 and expires_at > $5`

	sqlPurgeTemporary = `delete from temporary_key where (tenant_id, id) in (
    select tenant_id, id from temporary_key where expires_at < $1 order by expires_at limit $2)`

	sqlPurgeNonce = `delete from used_nonce where (tenant_id, type, identifier, value) in (
    select tenant_id, type, identifier, value from used_nonce where expires_at < $1 order by expires_at limit $2)`

	// Of all tenants: what the sweeper has to expire.
	sqlStale = `select tenant_id, id, app_id, user_id, state, failed_attempts, revision from registration
where state in ('CREATED', 'PENDING_COMMIT') and expires_at <= $1 order by expires_at limit $2`

	// What a verification needs, and nothing else: this is read for each.
	sqlHot = `select app_id, user_id, state, flags, master_secret_sealed, ctr_data, counter,
failed_attempts, failed_possession, max_failed_attempts, blocked_reason, revision, expires_at
from registration where tenant_id = $1 and id = $2`
)

// Each statement makes one change and its audit event, or neither.
var (
	sqlInsert = `with made as (
    insert into registration (tenant_id, id, app_id, user_id, activation_code, state, otp_mode, otp_hash,
        flags, name, platform, device_info, server_public_key, server_private_sealed,
        counter, failed_attempts, failed_possession, max_failed_attempts, version, revision,
        expires_at, created_at, changed_at, last_used_at)
    values ($1, $2, $3, $4, $5, 'CREATED', $6, $7, $8, '', '', '', $9, $10, 0, 0, 0, $11, '', 1, $12, $13, $13, $13)
    returning id
) ` + audit.After("made", 14)

	sqlExchange = `with moved as (
    update registration set state = $4, name = $5, platform = $6, device_info = $7,
        device_public_key = $8, master_secret_sealed = $9, ctr_data = $10, version = $11,
        failed_attempts = 0, revision = revision + 1, changed_at = $12, last_used_at = $12
    where tenant_id = $1 and id = $2 and revision = $3
    returning id
) ` + audit.After("moved", 13)

	// State and failed attempts by anything but a signature.
	sqlSettle = `with moved as (
    update registration set state = $4, failed_attempts = $5, revision = revision + 1,
        changed_at = case when state = $4 then changed_at else $6 end
    where tenant_id = $1 and id = $2 and revision = $3
    returning id
) ` + audit.After("moved", 7)

	// By an application tier; $6 forgets the failed attempts.
	sqlChange = `with moved as (
    update registration set state = $4, blocked_reason = $5,
        failed_attempts = case when $6 then 0 else failed_attempts end,
        failed_possession = case when $6 then 0 else failed_possession end,
        revision = revision + 1, changed_at = $7
    where tenant_id = $1 and id = $2 and revision = $3
    returning id
) ` + audit.After("moved", 8)

	sqlFlags = `with moved as (
    update registration set flags = $4, revision = revision + 1
    where tenant_id = $1 and id = $2 and revision = $3
    returning id
) ` + audit.After("moved", 5)

	sqlRename = `with moved as (
    update registration set name = $4, revision = revision + 1
    where tenant_id = $1 and id = $2 and revision = $3
    returning id
) ` + audit.After("moved", 5)

	sqlVerdict = `with moved as (
    update registration set state = $4, ctr_data = $5, counter = $6, failed_attempts = $7, failed_possession = $8,
        blocked_reason = $9, version = coalesce($10, version), revision = revision + 1,
        changed_at = case when state = $4 then changed_at else $11 end, last_used_at = $11
    where tenant_id = $1 and id = $2 and revision = $3 and state = 'ACTIVE' and ctr_data = $12
    returning id
) ` + audit.After("moved", 13)
)

// A verdict that leaves the state as it is wins or loses by the revision, and by
// the state and counter that were read: a database that went back in time, in a
// failover, may reach a revision twice. Neither of these statements waits for a row
// that another transaction holds: one that could not be locked has not moved, like
// one that was changed, and who reads it again finds out which.
var (
	sqlVerdictAlone = `with locked as (
    select tenant_id, id from registration
    where tenant_id = $1 and id = $2 and revision = $3 and state = 'ACTIVE' and ctr_data = $10
    for no key update skip locked
), moved as (
    update registration r set ctr_data = $4, counter = $5, failed_attempts = $6, failed_possession = $7,
        version = coalesce(nullif($8, ''), r.version), revision = r.revision + 1, last_used_at = $9
    from locked l where r.tenant_id = l.tenant_id and r.id = l.id
    returning r.id
) ` + audit.After("moved", 11)

	// Many of one tenant, of different registrations. Answers NULL when all moved,
	// else the numbers, from 1, of those that did.
	//
	// The form decides the plan, which no statistics of a young table may: arrays
	// behind a select have no length for the planner, so that its general plan is as
	// good as one for these arrays and they are not planned again and again (2.4
	// times the CPU of four verdicts); a limit keeps the join from becoming a scan of
	// the tenant (20 times, of sixty); and the row that is locked is the one that
	// changes, by its place (docs/design/0027), with its key as well, since each
	// partition has places of its own.
	sqlVerdicts = `with given as (
    select * from unnest((select $2::uuid[]), (select $3::bigint[]), (select $4::bytea[]), (select $5::bigint[]),
            (select $6::integer[]), (select $7::integer[]), (select $8::text[]), (select $10::bytea[]))
        with ordinality as g(id, revision, ctr_data, counter, failed_attempts, failed_possession, version, ctr_read, n)
), locked as (
    select g.*, r.at from given g cross join lateral (
        select r.ctid as at from registration r
        where r.tenant_id = $1 and r.id = g.id and r.revision = g.revision and r.state = 'ACTIVE' and r.ctr_data = g.ctr_read
        limit 1 for no key update skip locked
    ) r
), moved as (
    update registration r set ctr_data = l.ctr_data, counter = l.counter, failed_attempts = l.failed_attempts,
        failed_possession = l.failed_possession, version = coalesce(nullif(l.version, ''), r.version),
        revision = r.revision + 1, last_used_at = $9::timestamptz
    from locked l where r.ctid = l.at and r.tenant_id = $1 and r.id = l.id
    returning l.n
), logged as (` + audit.AfterPack("moved", "n", "(select count(*) from moved) = cardinality($2::uuid[])", 11) + `)
select case when count(*) < cardinality($2::uuid[]) then coalesce(array_agg(n), '{}') end from moved`
)

// ActiveFlags returns a query that gives one row, the flags, while a registration
// is ACTIVE, for a common table expression in a statement of another domain; the
// arguments are the numbers of its tenant and id. The text is made of constants
// only; call it once, at package level.
func ActiveFlags(tenantArg, idArg int) string {
	return ActiveFlagsOf("$"+strconv.Itoa(tenantArg), "$"+strconv.Itoa(idArg))
}

// ActiveFlagsOf is ActiveFlags for constant expressions.
func ActiveFlagsOf(tenant, id string) string {
	return "select flags from registration where tenant_id = " + tenant + " and id = " + id + " and state = 'ACTIVE'"
}
