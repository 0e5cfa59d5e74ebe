package ca

import "github.com/signet-hsm/signet/audit"

const (
	certificateInsert = `insert into ca_certificate
  (tenant_id, cert_ref, serial, profile, profile_hash, signer_id, issuer_key_id, status,
   user_id, client_id, spki_sha256, not_before, not_after, requested_at, actor, lease_owner, lease_until,
   replaces, subject_signer_id, sequence, attempt)
`
	// A new signer's certificate; the issuer CA is no row.
	sqlSignerCertificateIntent = certificateInsert + `values ($1, $2, $3, $4, $5, null, $6, 'REQUESTED',
  null, null, $7, $8, $9, $10, $11, $12, now() + $13::bigint * interval '1 millisecond', null, $2, 0, 0)`

	// A leaf's. Nothing is written when the signer is no longer ACTIVE or has
	// another certificate, which is how a node learns of a rotation elsewhere; nor
	// when the certificate that it renews has ended.
	// The lock, which the foreign key takes anyway, makes a deletion wait for this
	// statement, and this one for a deletion.
	sqlLeafIntent = certificateInsert + `select $1::text, $2::text, $3::bytea, $4::text, $5::bytea, s.id, $6::bytea, 'REQUESTED',
  $7::text, $8::text, $9::bytea, $10::timestamptz, $11::timestamptz, $12::timestamptz, $13::text,
  $14::text, now() + $15::bigint * interval '1 millisecond', $16::text, null, 0, 0
from ca_signer s where s.tenant_id = $1::text and s.id = $17::text and s.state = 'ACTIVE' and s.serial = $18::bytea
  and ($16::text is null or exists (select from ca_certificate o
    where o.tenant_id = $1::text and o.cert_ref = $16::text and o.status = 'ISSUED'))
for key share`

	// Those of many at once, without the waiting: a signer whose row is held is
	// left out with its certificates. Answers what was recorded.
	sqlLeafIntents = `with given as (
  select * from unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::bytea[], $6::bytea[], $7::text[], $8::text[], $9::bytea[],
    $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::text[], $14::text[], $15::bytea[])
    as g(tenant_id, cert_ref, serial, profile, profile_hash, issuer_key_id, user_id, client_id, spki_sha256,
      not_before, not_after, requested_at, actor, signer_id, signer_serial)
), live as (
  select s.tenant_id, s.id, s.serial from ca_signer s
  where (s.tenant_id, s.id) in (select tenant_id, signer_id from given) and s.state = 'ACTIVE'
  for key share skip locked
)
` + certificateInsert + `select g.tenant_id, g.cert_ref, g.serial, g.profile, g.profile_hash, s.id, g.issuer_key_id, 'REQUESTED',
  g.user_id, g.client_id, g.spki_sha256, g.not_before, g.not_after, g.requested_at, g.actor,
  $16::text, now() + $17::bigint * interval '1 millisecond', null, null, 0, 0
from given g join live s on s.tenant_id = g.tenant_id and s.id = g.signer_id and s.serial = g.signer_serial
returning cert_ref`

	certificateIssued = `update ca_certificate set status = 'ISSUED', certificate = $3, issued_at = $4,
  lease_owner = null, lease_until = null
where tenant_id = $1 and cert_ref = $2 and status = 'REQUESTED'`

	sqlSignerCertificateIssued = certificateIssued

	// A certificate whose signer was revoked meanwhile is not handed out; nor one
	// that renews a certificate which was. The lock on that one makes a revocation
	// wait for this statement, and find what it stores, or the other way about.
	leafIssued = certificateIssued + ` and exists (select from ca_signer s
  where s.tenant_id = $1 and s.id = ca_certificate.signer_id and s.state in ('ACTIVE', 'RETIRED'))
  and (replaces is null or exists (select from ca_certificate o
    where o.tenant_id = $1 and o.cert_ref = ca_certificate.replaces and o.status = 'ISSUED' for share))`

	certificateFailed = `update ca_certificate set status = 'FAILED', failure = $3, lease_owner = null, lease_until = null
where tenant_id = $1 and cert_ref = $2 and status = 'REQUESTED'`

	sqlCertificateFailed = certificateFailed
)

// A leaf certificate and its audit event are stored by one statement.
var (
	sqlLeafIssued = "with changed as (" + leafIssued + " returning cert_ref) " + audit.After("changed", 5)
	// Those of many at once, none of which renews another; a row that somebody
	// holds is left out. Each is looked up by its key, and its status looked at
	// after that: else the index of all that are REQUESTED is searched for each, with
	// the dead ones in it. Answers the numbers, from 1, of those that were stored.
	sqlLeavesIssued = `with given as (
  select * from unnest($1::text[], $2::text[], $3::bytea[], $4::timestamptz[]) with ordinality as g(tenant_id, cert_ref, certificate, at, n)
), free as materialized (
  select g.* from given g cross join lateral (
    select c.signer_id, c.status, c.replaces from ca_certificate c
    where c.tenant_id = g.tenant_id and c.cert_ref = g.cert_ref limit 1 for no key update of c skip locked) c
  where c.status = 'REQUESTED' and c.replaces is null and exists (select from ca_signer s
    where s.tenant_id = g.tenant_id and s.id = c.signer_id and s.state in ('ACTIVE', 'RETIRED'))
), changed as (
  update ca_certificate c set status = 'ISSUED', certificate = f.certificate, issued_at = f.at, lease_owner = null, lease_until = null
  from free f where c.tenant_id = f.tenant_id and c.cert_ref = f.cert_ref
  returning f.n
), logged as (` + audit.AfterMany("changed", "n", 5) + `)
select n from changed`

	sqlLeafFailed = "with changed as (" + certificateFailed + " returning cert_ref) " + audit.After("changed", 4)
)

// What a tombstone needs of a certificate, as scanRevocable reads it.
const (
	revocableColumns = `c.cert_ref, c.serial, c.issuer_key_id, c.status, c.subject_signer_id is not null,
  c.lease_owner is not null, c.certificate, c.not_after, coalesce(c.signer_id, ''), coalesce(c.user_id, ''), c.profile,
  coalesce((select s.crl_shards from ca_signer s where s.tenant_id = c.tenant_id and s.id = c.signer_id), 1)`

	sqlRevocableByRef = `select ` + revocableColumns + ` from ca_certificate c
where c.tenant_id = $1 and c.cert_ref = $2 for update of c`

	sqlRevocableBySerial = `select ` + revocableColumns + ` from ca_certificate c
where c.tenant_id = $1 and c.serial = $2 for update of c`

	sqlCertificatesRevoke = `update ca_certificate c set status = 'REVOKED', revoked_at = $3, revocation_reason = $4, revoked_by = $5
where c.tenant_id = $1 and c.cert_ref = any($2::text[]) and c.status = 'ISSUED'
returning ` + revocableColumns

	sqlCertificatesFail = `update ca_certificate c set status = 'FAILED', failure = $3, lease_owner = null, lease_until = null
where c.tenant_id = $1 and c.cert_ref = any($2::text[]) and c.status = 'REQUESTED'
returning ` + revocableColumns

	sqlLiveBySigner = `select cert_ref from ca_certificate
where tenant_id = $1 and signer_id = $2 and cert_ref > $3 and status in ('REQUESTED', 'ISSUED')
order by cert_ref limit $4`

	// What was renewed by means of these.
	sqlSuccessors = `select cert_ref from ca_certificate
where tenant_id = $1 and replaces = any($2::text[]) and status in ('ISSUED', 'REVOKED') limit $3`

	// The certificates of a signer's own key.
	sqlSignerCertificates = `select ` + revocableColumns + ` from ca_certificate c
where c.tenant_id = $1 and c.subject_signer_id = $2 and c.status in ('REQUESTED', 'ISSUED')
order by c.sequence for update of c`

	sqlCertificateErase = `update ca_certificate set status = 'REVOKED', certificate = null,
  revoked_at = $3, revocation_reason = $4, revoked_by = $5
where tenant_id = $1 and cert_ref = $2 and status = 'ISSUED'`

	sqlCertificateStatus = `select status from ca_certificate where tenant_id = $1 and cert_ref = $2`
)

// Renewals.
const (
	sqlSignerLastStatus = `select status from ca_certificate
where tenant_id = $1 and subject_signer_id = $2 order by sequence desc limit 1`

	// What will be in the certificate is written when the attempt has drafted it.
	sqlRenewalIntent = certificateInsert + `select $1::text, $2::text, $3::bytea, $4::text, $5::bytea, null, $6::bytea, 'REQUESTED',
  null, null, s.spki_sha256, $7::timestamptz, $7::timestamptz, $7::timestamptz, $8::text,
  $9::text, now() + $10::bigint * interval '1 millisecond', null, s.id,
  (select max(c.sequence) + 1 from ca_certificate c where c.tenant_id = s.tenant_id and c.subject_signer_id = s.id), $12::integer
from ca_signer s where s.tenant_id = $1::text and s.id = $11::text and s.state in ('ACTIVE', 'RETIRED')`

	sqlSignerToRenew = `select name, generation, certificate from ca_signer
where tenant_id = $1 and id = $2 and state in ('ACTIVE', 'RETIRED')`

	sqlRenewalDraft = `update ca_certificate set profile = $3, profile_hash = $4, issuer_key_id = $5, not_before = $6, not_after = $7
where tenant_id = $1 and cert_ref = $2 and status = 'REQUESTED'`

	sqlRenewalFailed = certificateFailed + ` returning issuer_key_id, not_after`

	sqlSignerRenewed = `update ca_signer set certificate = $3, serial = $4, updated_at = $5, changed_at = now()
where tenant_id = $1 and id = $2 and state in ('ACTIVE', 'RETIRED')`

	// Signers whose certificate another issuer signed.
	sqlOtherIssuers = `select s.tenant_id, s.id from ca_signer s
join ca_certificate c on c.serial = s.serial
where s.state in ('ACTIVE', 'RETIRED') and c.issuer_key_id <> $1 and (s.tenant_id, s.id) > ($2, $3)
order by s.tenant_id, s.id limit $4`

	// Its own certificates, newest first.
	sqlSignerPaths = `select certificate from ca_certificate
where tenant_id = $1 and subject_signer_id = $2 and status = 'ISSUED' and not_after >= $3
order by sequence desc`
)

// What is shown to us, and how many renewals its client has asked for of late.
const sqlHeld = `select c.cert_ref, c.profile, coalesce(c.user_id, ''), coalesce(c.client_id, ''), c.status, c.certificate,
  s.state, s.certificate,
  (select count(*) from (select from ca_certificate r where r.tenant_id = c.tenant_id and r.client_id = c.client_id
    and r.replaces is not null and r.requested_at > $3 limit $4) recent)
from ca_certificate c join ca_signer s on s.tenant_id = c.tenant_id and s.id = c.signer_id
where c.tenant_id = $1 and c.serial = $2`
