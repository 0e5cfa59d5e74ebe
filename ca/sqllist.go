package ca

import "github.com/signet-hsm/signet/internal/filter"

// Lists are put together from these texts and a compiled filter, which is
// keywords, these columns and numbered parameters.
const (
	signerListFrom  = `ca_signer where tenant_id = $1 and ` + visible
	signerListOrder = `generation desc, id`

	// A certificate as callers see it. One that ended is EXPIRED, which is kept
	// nowhere: $2 is now. A signer that is no more has no certificate either.
	certificateColumns = `c.cert_ref, c.status, c.signer_id, c.user_id, c.client_id, c.profile, c.requested_at, c.issued_at`
	certificateView    = `(select r.cert_ref as row_ref, r.sequence, r.subject_signer_id, coalesce(r.subject_signer_id, r.cert_ref) as cert_ref,
    case when r.status = 'ISSUED' and r.not_after < $2 then 'EXPIRED' else r.status end as status,
    r.signer_id, r.user_id, r.client_id, r.profile, r.requested_at, r.issued_at
  from ca_certificate r
  where r.tenant_id = $1 and (r.subject_signer_id is null or not exists (
    select from ca_signer s where s.tenant_id = r.tenant_id and s.id = r.subject_signer_id and s.state = 'DELETED'))) c`

	// A signer is one entry, by its newest request: its id stands for that one.
	certificateListFrom = certificateView + ` where (c.subject_signer_id is null or not exists (
  select from ca_certificate n where n.tenant_id = $1 and n.subject_signer_id = c.subject_signer_id and n.sequence > c.sequence))`
	certificateListOrder = `c.row_ref desc`

	sqlCertificateInfo = `select ` + certificateColumns + ` from ` + certificateView + `
where c.subject_signer_id = $3 or c.row_ref = $3
order by c.sequence desc limit 1`

	// Any serial that was ever intended, those of signers that are no more among them.
	sqlCertificateBySerial = `select r.cert_ref, case when r.status = 'ISSUED' and r.not_after < $2 then 'EXPIRED' else r.status end,
  r.signer_id, r.user_id, r.client_id, r.profile, r.requested_at, r.issued_at
from ca_certificate r where r.tenant_id = $1 and r.serial = $3`
)

// What the lists can be filtered by (seed 001).
var (
	signerFields = filter.Fields{Bare: "%.", Names: map[string]filter.Field{
		"name":       {Column: "name"},
		"id":         {Column: "id"},
		"state":      {Column: "state"},
		"generation": {Column: "generation", Kind: filter.Number},
		"createdAt":  {Column: "created_at", Kind: filter.Time},
		"updatedAt":  {Column: "updated_at", Kind: filter.Time},
	}}
	certificateFields = filter.Fields{Bare: "%.", Names: map[string]filter.Field{
		"certRef": {Column: "c.cert_ref"},
		"status":  {Column: "c.status"},
		"user":    {Column: "c.user_id"},
		"client":  {Column: "c.client_id"},
		"profile": {Column: "c.profile"},
	}}
)
