package callback

const (
	sqlCreate = `insert into callback_endpoint (tenant_id, id, app_id, name, type, url, secret_sealed, created_at)
select $1::text, $2::uuid, $3::text, $4::text, $5::text, $6::text, $7::bytea, $8::timestamptz
where (select count(*) from callback_endpoint where tenant_id = $1 and app_id = $3) < $9`

	sqlList = `select id::text, app_id, name, type, url, created_at from callback_endpoint
where tenant_id = $1 and app_id = $2 order by created_at, id`

	sqlRemove = `delete from callback_endpoint where tenant_id = $1 and app_id = $2 and id = $3`

	// Every right-hand side sees the row as it was.
	sqlRotate = `update callback_endpoint set secret_sealed = $4, previous_sealed = secret_sealed, previous_until = $5
where tenant_id = $1 and app_id = $2 and id = $3`

	sqlTargets = `select id::text from callback_endpoint where tenant_id = $1 and app_id = $2 and type = $3`

	sqlEndpoint = `select url, secret_sealed, case when previous_until > $3 then previous_sealed end
from callback_endpoint where tenant_id = $1 and id = $2`
)
