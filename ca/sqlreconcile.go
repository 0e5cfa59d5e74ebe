package ca

// A lease is over by the database's clock, which all nodes share. The parts that
// only change rows take them with SKIP LOCKED: two nodes find different ones.
// Those that call the HSM hold a lease instead, and no lock. The selections are
// materialized, since a plan that ran one anew for each row would skip what it has
// locked and pass the limit.
const (
	sqlLeavesAbandoned = `with ended as materialized (
  select tenant_id, cert_ref from ca_certificate
  where status = 'REQUESTED' and subject_signer_id is null and (lease_until is null or lease_until <= now())
  order by lease_until limit $2 for update skip locked)
update ca_certificate c set status = 'FAILED', failure = $1, lease_owner = null, lease_until = null
where (c.tenant_id, c.cert_ref) in (select tenant_id, cert_ref from ended)
returning c.tenant_id, coalesce(c.actor, ''), c.cert_ref, c.serial, c.issuer_key_id, c.not_after, coalesce(c.signer_id, ''),
  coalesce(c.user_id, ''), c.profile,
  coalesce((select s.crl_shards from ca_signer s where s.tenant_id = c.tenant_id and s.id = c.signer_id), 1)`

	sqlCreationsAbandoned = `with ended as materialized (
  select tenant_id, id from ca_signer
  where state = 'PENDING' and (lease_until is null or lease_until <= now())
  order by updated_at limit $4 for update skip locked)
update ca_signer set state = 'FAILED', failure = $1, updated_at = $2,
  lease_owner = null, lease_until = now() + $3::bigint * interval '1 millisecond'
where (tenant_id, id) in (select tenant_id, id from ended)
returning tenant_id, id, name, generation`

	renewalColumns = `tenant_id, subject_signer_id, cert_ref, serial, attempt, coalesce(actor, '')`

	sqlRenewalsAbandoned = `select ` + renewalColumns + ` from ca_certificate
where status = 'REQUESTED' and subject_signer_id <> cert_ref and lease_owner is not null and lease_until <= now()
order by lease_until limit $1`

	sqlRenewalsDue = `select ` + renewalColumns + ` from ca_certificate
where status = 'REQUESTED' and subject_signer_id <> cert_ref and lease_owner is null and lease_until <= now()
order by lease_until limit $1`

	sqlRenewalTake = `update ca_certificate set lease_owner = $3, lease_until = now() + $4::bigint * interval '1 millisecond'
where tenant_id = $1 and cert_ref = $2 and status = 'REQUESTED' and lease_owner is null and lease_until <= now()`

	sqlKeysToDestroy = `select tenant_id, id, name, generation from ca_signer
where state in ('FAILED', 'DELETED') and key_destroyed_at is null and (lease_until is null or lease_until <= now())
order by updated_at limit $1`

	sqlSignersAged = `select tenant_id, id, name, generation from ca_signer
where state = 'ACTIVE' and created_at <= $2 and (lease_until is null or lease_until <= now())
order by created_at limit $1`

	sqlSignerTake = `update ca_signer set lease_owner = $3, lease_until = now() + $4::bigint * interval '1 millisecond'
where tenant_id = $1 and id = $2 and (lease_until is null or lease_until <= now())
  and (state = 'ACTIVE' or state in ('FAILED', 'DELETED') and key_destroyed_at is null)`

	sqlKeyKnown = `select exists (select from ca_signer
where tenant_id = $1 and id = $2 and key_label = $3 and key_destroyed_at is null)`
)
