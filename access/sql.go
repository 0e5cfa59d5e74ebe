package access

// A username without a row gives no row; a disabled one is found, so that both
// take the same way.
const sqlCredential = `
select c.tenant_id, c.role, c.mac, c.pepper_version, c.disabled_at is null,
       array(select g.app_id from access_grant g
              where g.tenant_id = c.tenant_id and g.username = c.username
              order by g.app_id)
  from access_credential c
 where c.username = $1`

// Credential and grants in one statement: both or none.
const sqlCreate = `
with c as (
    insert into access_credential (tenant_id, username, role, mac, pepper_version, created_at)
    values ($1, $2, $3, $4, $5, $6)
    returning tenant_id, username
)
insert into access_grant (tenant_id, username, app_id, created_at)
select c.tenant_id, c.username, a.app_id, $6
  from c, unnest($7::text[]) as a (app_id)`

const sqlRole = `select role from access_credential where tenant_id = $1 and username = $2`

const sqlReset = `
update access_credential set mac = $4, pepper_version = $5
 where tenant_id = $1 and username = $2 and role = $3`

const sqlDisable = `
update access_credential set disabled_at = coalesce(disabled_at, $3)
 where tenant_id = $1 and username = $2`

const sqlGrant = `
insert into access_grant (tenant_id, username, app_id, created_at)
select c.tenant_id, c.username, $3, $4
  from access_credential c
 where c.tenant_id = $1 and c.username = $2
on conflict (tenant_id, username, app_id) do update set app_id = excluded.app_id`

const sqlPepper = `select sealed from access_pepper where tenant_id = $1 and version = $2`

const sqlPepperCreate = `
insert into access_pepper (tenant_id, version, sealed, created_at)
values ($1, $2, $3, $4)
on conflict (tenant_id, version) do nothing`
