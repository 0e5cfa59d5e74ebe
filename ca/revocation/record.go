package revocation

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// Record is one revoked certificate. All fields are required but Since, and
// Reason, whose zero is Unspecified.
type Record struct {
	Tenant  tenant.ID // of the certificate
	Issuer  []byte    // subject key identifier of the issuing CA, 20 bytes
	Shards  int       // number of CRLs of that CA, fixed when it was created: 1 and up
	Serial  issuance.Serial
	CertRef string   // ULID
	SHA256  [32]byte // of the certificate
	Reason  Reason
	At      time.Time
	// Since is when the key is thought to have been lost, if that was earlier:
	// the invalidity date of RFC 5280. Zero = not stated.
	Since    time.Time
	NotAfter time.Time // of the certificate, its last valid second
	Actor    string
}

// Shard is the number of the CRL that a serial belongs to, 0..shards-1. The last
// bytes of a serial are random, so the shards fill evenly.
func Shard(serial issuance.Serial, shards int) int {
	return int(binary.BigEndian.Uint32(serial[12:]) % uint32(shards))
}

// RecordTx writes the tombstones. When tx commits, the CRLs concerned are out of
// date and no OCSP response calls the certificates good any more. A certificate
// that was revoked before keeps its first record. It only inserts rows and
// touches stored responses, so that concurrent revocations do not wait for each
// other. Errors: ErrRecord, ErrReason, fault.ErrUnavailable.
func RecordTx(ctx context.Context, tx pgx.Tx, records ...Record) error {
	b := &pgx.Batch{}
	for i := range records {
		r := &records[i]
		if err := r.check(); err != nil {
			return fmt.Errorf("revocation: record %s: %w", r.CertRef, err)
		}
		shard := Shard(r.Serial, r.Shards)
		var since *time.Time
		if !r.Since.IsZero() {
			since = &r.Since
		}
		b.Queue(sqlRecord, r.Tenant.String(), r.Issuer, r.Serial[:], shard, r.CertRef, r.SHA256[:],
			int16(r.Reason), r.At, since, r.NotAfter, r.Actor)
		b.Queue(sqlEnsureShard, r.Issuer, shard, r.At)
		b.Queue(sqlStale, r.Issuer, r.Serial[:], r.At)
	}
	if b.Len() == 0 {
		return nil
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("revocation: record: %w", pg.Unavailable(err))
	}
	return nil
}

func (r *Record) check() error {
	_, err := issuance.ParseSerial(r.Serial[:])
	switch {
	case err != nil, r.Tenant.IsZero(), len(r.Issuer) != len(KeyID{}), len(r.CertRef) != 26, r.At.IsZero(), r.NotAfter.IsZero():
		return ErrRecord
	case r.Shards < 1 || r.Shards > MaxShards:
		return fmt.Errorf("%w: %d shards", ErrRecord, r.Shards)
	case r.Since.After(r.At):
		return fmt.Errorf("%w: invalid only after the revocation", ErrRecord)
	case !r.Reason.Valid():
		return ErrReason
	}
	return nil
}
