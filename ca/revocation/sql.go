package revocation

const (
	// The first revocation of a certificate stands.
	sqlRecord = `insert into ca_revocation
  (tenant_id, issuer_key_id, serial, shard, cert_ref, sha256, reason, revoked_at, invalid_since, not_after, actor)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
on conflict do nothing`

	// Nothing is locked: a CRL that is there is out of date by the PENDING
	// tombstone alone, so that revocations do not queue for one row.
	sqlEnsureShard = `insert into ca_crl (issuer_key_id, shard, refresh_at) values ($1, $2, $3)
on conflict (issuer_key_id, shard) do nothing`

	// What was asked for is signed anew in the background; nobody is given the
	// old one, because readers look for a tombstone as well.
	sqlStale = `update ca_ocsp set refresh_at = $3
where issuer_key_id = $1 and serial = $2 and status = 'GOOD'`
)
