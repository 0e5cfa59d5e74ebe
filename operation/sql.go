package operation

import "github.com/signet-hsm/signet/audit"

const templateColumns = `name, operation_type, data_template, signature_types, max_failures, lifetime,
risk_flags, proximity, texts`

const (
	sqlTemplate = `select ` + templateColumns + ` from operation_template where tenant_id = $1 and name = $2`

	sqlTemplates = `select ` + templateColumns + ` from operation_template where tenant_id = $1 order by name`
)

const columns = `tenant_id, id, apps, user_id, external_id, flag, template, operation_type, language,
parameters, data, texts, signature_types, risk_flags, proximity_seed, state, reason, additional,
failures, max_failures, attempt, revision, created_at, expires_at, finished_at`

const (
	sqlByID = `select ` + columns + ` from operation where tenant_id = $1 and id = $2`

	// What a device may see: $3 is its application, $4 the flags of its
	// registration.
	sqlPending = `select ` + columns + ` from operation
where tenant_id = $1 and user_id = $2 and $3 = any(apps) and (flag = '' or flag = any($4))
and state = 'PENDING' and expires_at > $5
order by created_at desc, id limit $6`

	sqlHistory = `select ` + columns + ` from operation
where tenant_id = $1 and user_id = $2 and $3 = any(apps) and (flag = '' or flag = any($4))
order by created_at desc, id limit $5`

	sqlPendingOfUser = `select ` + columns + ` from operation
where tenant_id = $1 and user_id = $2 and state = 'PENDING' order by created_at, id limit $3`

	// Locked rows are another node's batch: nobody waits for anybody.
	sqlOverdue = `select ` + columns + ` from operation
where state = 'PENDING' and expires_at <= $1
order by expires_at limit $2 for update skip locked`

	// Of all tenants, as the sweep is. Materialized, since a plan that ran the
	// selection anew for each row would skip what it has locked and pass the limit.
	sqlPurge = `with old as materialized (
    select tenant_id, id from operation where finished_at < $1
    order by finished_at limit $2 for update skip locked)
delete from operation where (tenant_id, id) in (select tenant_id, id from old)`

	// An offline check begins. No event: nothing was decided yet.
	sqlAttempt = `update operation set attempt = $4, revision = revision + 1
where tenant_id = $1 and id = $2 and revision = $3`
)

// Each statement makes one change and its audit event, or neither.
var (
	sqlTemplateInsert = `with made as (
    insert into operation_template (tenant_id, ` + templateColumns + `, created_at, changed_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
    returning name
) ` + audit.After("made", 12)

	sqlTemplateUpdate = `with moved as (
    update operation_template set operation_type = $3, data_template = $4, signature_types = $5,
        max_failures = $6, lifetime = $7, risk_flags = $8, proximity = $9, texts = $10, changed_at = $11
    where tenant_id = $1 and name = $2
    returning name
) ` + audit.After("moved", 12)

	sqlTemplateDelete = `with gone as (
    delete from operation_template where tenant_id = $1 and name = $2 returning name
) ` + audit.After("gone", 3)

	sqlInsert = `with made as (
    insert into operation (tenant_id, id, apps, user_id, external_id, flag, template, operation_type, language,
        parameters, data, texts, signature_types, risk_flags, proximity_seed, state, reason, additional,
        failures, max_failures, revision, created_at, expires_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 'PENDING', '', '{}', 0, $16, 1, $17, $18)
    returning id
) ` + audit.After("made", 19)

	sqlMove = `with moved as (
    update operation set state = $4, reason = $5, additional = $6, failures = $7, attempt = $8, finished_at = $9,
        revision = revision + 1
    where tenant_id = $1 and id = $2 and revision = $3
    returning id
) ` + audit.After("moved", 10)

	// The row is locked already; the revision still moves for those who read it.
	sqlExpire = `with moved as (
    update operation set state = $4, finished_at = $5, revision = revision + 1
    where tenant_id = $1 and id = $2 and revision = $3
    returning id
) ` + audit.After("moved", 6)
)
