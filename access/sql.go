package access

import "github.com/signet-hsm/signet/audit"

// A username without a row gives no row; a disabled one is found, so that both
// take the same way.
const sqlCredential = `
select c.tenant_id, c.role, c.mac, c.pepper_version, c.disabled_at is null,
       array(select g.app_id from access_grant g
              where g.tenant_id = c.tenant_id and g.username = c.username
              order by g.app_id)
  from access_credential c
 where c.username = $1`

// change is a statement that changes a credential and says how many users it
// met, and the same with its audit event.
type change struct{ plain, audited string }

// changing ends a statement whose part u holds the user and whose part cte has a
// row exactly when something was changed; it has n arguments of its own.
func changing(parts, cte string, n int) change {
	const count = " select count(*) from u"
	return change{parts + count, parts + ", event as (" + audit.After(cte, n+1) + ")" + count}
}

// Credential and grants in one statement: both or none.
var sqlCreate = changing(`
with u as (
    insert into access_credential (tenant_id, username, role, mac, pepper_version, created_at)
    values ($1, $2, $3, $4, $5, $6)
    returning tenant_id, username
), granted as (
    insert into access_grant (tenant_id, username, app_id, created_at)
    select u.tenant_id, u.username, a.app_id, $6
      from u, unnest($7::text[]) as a (app_id)
)`, "u", 7)

const sqlRole = `select role from access_credential where tenant_id = $1 and username = $2`

var sqlReset = changing(`
with u as (
    update access_credential set mac = $4, pepper_version = $5
     where tenant_id = $1 and username = $2 and role = $3
    returning 1
)`, "u", 5)

var sqlDisable = changing(`
with u as (
    select 1 from access_credential where tenant_id = $1 and username = $2
), changed as (
    update access_credential set disabled_at = $3
     where tenant_id = $1 and username = $2 and disabled_at is null
    returning 1
)`, "changed", 3)

var sqlGrant = changing(`
with u as (
    select tenant_id, username from access_credential where tenant_id = $1 and username = $2
), changed as (
    insert into access_grant (tenant_id, username, app_id, created_at)
    select u.tenant_id, u.username, $3, $4 from u
    on conflict (tenant_id, username, app_id) do nothing
    returning 1
)`, "changed", 4)

const sqlUsers = `
select c.username, c.role, c.disabled_at is null, c.created_at,
       array(select g.app_id from access_grant g
              where g.tenant_id = c.tenant_id and g.username = c.username
              order by g.app_id)
  from access_credential c
 where c.tenant_id = $1
 order by c.username`

const sqlPepper = `select sealed from access_pepper where tenant_id = $1 and version = $2`

const sqlPepperCreate = `
insert into access_pepper (tenant_id, version, sealed, created_at)
values ($1, $2, $3, $4)
on conflict (tenant_id, version) do nothing`
