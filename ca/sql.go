package ca

import "github.com/signet-hsm/signet/audit"

const (
	signerColumns = "id, name, generation, state, certificate, created_at, updated_at"

	// Rows without a certificate to show for are not there.
	visible = "state in ('ACTIVE', 'RETIRED', 'REVOKED')"

	sqlSignerByID = `select ` + signerColumns + ` from ca_signer
where tenant_id = $1 and id = $2 and ` + visible

	sqlSignerCurrent = `select ` + signerColumns + ` from ca_signer
where tenant_id = $1 and state = 'ACTIVE' order by created_at desc, id desc limit 1`

	sqlSignerList = `select ` + signerColumns + ` from ca_signer
where tenant_id = $1 and ` + visible + `
order by generation desc, id limit $2 offset $3`

	sqlSignerCount = `select count(*) from ca_signer where tenant_id = $1 and ` + visible

	sqlSignerState = `select state from ca_signer where tenant_id = $1 and id = $2`

	// The generation is taken and written in one statement; of two at once one
	// hits the unique constraint and tries again.
	sqlSignerIntent = `insert into ca_signer
  (tenant_id, id, name, generation, state, key_label, key_algorithm, created_at, updated_at)
select $1::text, $2::text, coalesce($3::text, $4::text || '-' || g.next), g.next, 'PENDING',
  $5::text || g.next, $6::text, $7::timestamptz, $7::timestamptz
from (select coalesce(max(generation) + 1, 0) as next from ca_signer where tenant_id = $1::text) g
returning name, generation`

	sqlSignerKey = `update ca_signer set spki_sha256 = $3, serial = $4, updated_at = $5
where tenant_id = $1 and id = $2 and state = 'PENDING'`

	sqlSignerRetire = `update ca_signer set state = 'RETIRED', updated_at = $3
where tenant_id = $1 and state = 'ACTIVE' and generation < $2
returning id`

	sqlSignerActivate = `update ca_signer set state = 'ACTIVE', certificate = $3, updated_at = $4
where tenant_id = $1 and id = $2 and state = 'PENDING'`

	sqlSignerNewer = `select exists (select from ca_signer
where tenant_id = $1 and state = 'ACTIVE' and generation > $2)`

	sqlSignerFail = `update ca_signer set state = 'FAILED', failure = $3, updated_at = $4
where tenant_id = $1 and id = $2 and state = 'PENDING'`

	certificateInsert = `insert into ca_certificate
  (tenant_id, cert_ref, serial, profile, profile_hash, signer_id, issuer_key_id, status,
   user_id, client_id, spki_sha256, not_before, not_after, requested_at)
`
	// A signer's certificate; the issuer CA is no row.
	sqlSignerCertificateIntent = certificateInsert + `values ($1, $2, $3, $4, $5, null, $6, 'REQUESTED', null, null, $7, $8, $9, $10)`

	// A device's. Nothing is written when the signer is no longer ACTIVE, which
	// is how a node learns of a rotation elsewhere.
	sqlDeviceIntent = certificateInsert + `select $1::text, $2::text, $3::bytea, $4::text, $5::bytea, s.id, $6::bytea, 'REQUESTED',
  $7::text, $8::text, $9::bytea, $10::timestamptz, $11::timestamptz, $12::timestamptz
from ca_signer s where s.tenant_id = $1::text and s.id = $13::text and s.state = 'ACTIVE'`

	certificateIssued = `update ca_certificate set status = 'ISSUED', certificate = $3, issued_at = $4
where tenant_id = $1 and cert_ref = $2 and status = 'REQUESTED'`

	sqlSignerCertificateIssued = certificateIssued

	certificateFailed = `update ca_certificate set status = 'FAILED', failure = $3
where tenant_id = $1 and cert_ref = $2 and status = 'REQUESTED'`

	sqlSignerCertificateFailed = certificateFailed
)

// A device certificate and its audit event are stored by one statement.
var (
	sqlDeviceIssued = "with changed as (" + certificateIssued + " returning cert_ref) " + audit.After("changed", 5)
	sqlDeviceFailed = "with changed as (" + certificateFailed + " returning cert_ref) " + audit.After("changed", 4)
)
