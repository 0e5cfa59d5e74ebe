package ca

const (
	signerColumns = "id, name, generation, state, certificate, created_at, updated_at"

	// Rows without a certificate to show for are not there.
	visible = "state in ('ACTIVE', 'RETIRED', 'REVOKED')"

	sqlSignerByID = `select ` + signerColumns + ` from ca_signer
where tenant_id = $1 and id = $2 and ` + visible

	sqlSignerCurrent = `select ` + signerColumns + ` from ca_signer
where tenant_id = $1 and state = 'ACTIVE' order by created_at desc, id desc limit 1`

	sqlSignerState = `select state from ca_signer where tenant_id = $1 and id = $2`

	// The generation is taken and written in one statement; of two at once one
	// hits the unique constraint and tries again.
	sqlSignerIntent = `insert into ca_signer
  (tenant_id, id, name, generation, state, key_label, key_algorithm, created_at, updated_at, crl_shards,
   lease_owner, lease_until)
select $1::text, $2::text, coalesce($3::text, $4::text || '-' || g.next), g.next, 'PENDING',
  $5::text || g.next, $6::text, $7::timestamptz, $7::timestamptz, $8::integer,
  $9::text, now() + $10::bigint * interval '1 millisecond'
from (select coalesce(max(generation) + 1, 0) as next from ca_signer where tenant_id = $1::text) g
returning name, generation`

	sqlSignerKey = `update ca_signer set spki_sha256 = $3, serial = $4, updated_at = $5
where tenant_id = $1 and id = $2 and state = 'PENDING'`

	sqlSignerRetire = `update ca_signer set state = 'RETIRED', updated_at = $3, changed_at = now()
where tenant_id = $1 and state = 'ACTIVE' and generation < $2
returning id`

	sqlSignerActivate = `update ca_signer set state = 'ACTIVE', certificate = $3, updated_at = $4, changed_at = now(),
  lease_owner = null, lease_until = null
where tenant_id = $1 and id = $2 and state = 'PENDING'`

	sqlSignerNewer = `select exists (select from ca_signer
where tenant_id = $1 and state = 'ACTIVE' and generation > $2)`

	// The key is destroyed after this; when the one who does this can not, the
	// reconciler does when the lease is over.
	sqlSignerFail = `update ca_signer set state = 'FAILED', failure = $3, updated_at = $4
where tenant_id = $1 and id = $2 and state = 'PENDING'`

	sqlSignerKeyGone = `update ca_signer set key_destroyed_at = $3, lease_owner = null, lease_until = null
where tenant_id = $1 and id = $2 and state in ('FAILED', 'DELETED') and key_destroyed_at is null`

	sqlSignerLock = `select state from ca_signer
where tenant_id = $1 and id = $2 and ` + visible + ` for update`

	// Refused and failed requests count: what was asked of it is what it is for. So
	// do statements that were handed out.
	sqlSignerUsed = `select exists (select from ca_certificate where tenant_id = $1 and signer_id = $2)
or exists (select from ca_signer where tenant_id = $1 and id = $2 and stated_at is not null)`

	sqlSignerDelete = `update ca_signer set state = 'DELETED', certificate = null, updated_at = $3, changed_at = now(),
  lease_owner = $4, lease_until = now() + $5::bigint * interval '1 millisecond'
where tenant_id = $1 and id = $2 and state in ('ACTIVE', 'RETIRED')`

	sqlSignerRevoke = `update ca_signer set state = 'REVOKED', certificate = null, updated_at = $3, changed_at = now(),
  revoked_at = $3, revocation_reason = $4, revoked_by = $5, lease_owner = null, lease_until = null
where tenant_id = $1 and id = $2 and state in ('ACTIVE', 'RETIRED')`

	sqlLine = `select id, generation, certificate, serial, crl_shards from ca_signer
where tenant_id = $1 and state = 'ACTIVE' order by created_at desc, id desc limit 1`
)
