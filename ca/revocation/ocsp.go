package revocation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
)

// answerID names a stored response.
type answerID struct {
	issuer KeyID
	serial issuance.Serial
	hash   *certHash
}

// answer is what the database knows about one certificate: the stored response
// and the tombstone, each of which may be missing.
type answer struct {
	doc     Document
	status  string
	asked   time.Time
	revoked *tombstone
}

type tombstone struct {
	reason   Reason
	at       time.Time
	notAfter time.Time
}

// OCSP answers an OCSP request in DER about a certificate of the issuer. A
// stored response is given out while it is valid and no tombstone contradicts
// it; else one is signed and stored. Nothing is signed about a serial without a
// certificate, or after the certificate's end. Errors: ErrMalformed; ErrNoIssuer
// and ErrUnknownCertificate, for both of which the answer is "unauthorized";
// ErrBusy, fault.ErrUnavailable.
func (p *Publisher) OCSP(ctx context.Context, issuer KeyID, request []byte) (_ Document, err error) {
	status := ""
	defer func() { p.metrics.answered(status, err) }()
	id, err := parseRequest(request)
	if err != nil {
		return Document{}, err
	}
	i, err := p.c.Authority.Issuer(ctx, issuer)
	if err != nil {
		return Document{}, err
	}
	serial, ok := id.serialNumber()
	if !ok || !id.names(&i) {
		return Document{}, ErrUnknownCertificate
	}
	a := answerID{issuer, serial, id.hash}
	stored, err := p.stored(ctx, a)
	if err != nil {
		return Document{}, err
	}
	now := p.c.Now()
	if stored.usable(now) {
		status = stored.status
		p.noteAsked(ctx, a, &stored, now)
		return stored.doc, nil
	}
	fresh, err := p.first(ctx, a, &stored)
	status = fresh.status
	return fresh.doc, err
}

func (s *answer) usable(now time.Time) bool {
	return s.status != "" && now.Before(s.doc.NextUpdate) && (s.status == statusRevoked || s.revoked == nil)
}

const (
	statusGood    = "GOOD"
	statusRevoked = "REVOKED"
)

func (p *Publisher) stored(ctx context.Context, id answerID) (a answer, err error) {
	var (
		status                *string
		der                   []byte
		this, next, asked     *time.Time
		reason                *int16
		revokedAt, revokedEnd *time.Time
	)
	err = p.c.DB.QueryRow(ctx, sqlAnswer, id.issuer[:], id.serial[:], id.hash.name).
		Scan(&status, &der, &this, &next, &asked, &reason, &revokedAt, &revokedEnd)
	if err != nil {
		return answer{}, fmt.Errorf("revocation: read OCSP response: %w", pg.Unavailable(err))
	}
	if status != nil {
		a = answer{doc: newDocument(der, *this, *next), status: *status, asked: *asked}
	}
	if reason != nil {
		a.revoked = &tombstone{Reason(*reason), revokedAt.UTC().Truncate(time.Second), *revokedEnd}
	}
	return a, nil
}

// noteAsked remembers that a response is wanted, a few times in its life and not
// at each request. It is best effort: the answer is there.
func (p *Publisher) noteAsked(ctx context.Context, id answerID, s *answer, now time.Time) {
	if now.Sub(s.asked) < p.c.OCSPValidity/8 {
		return
	}
	if _, err := p.c.DB.Exec(ctx, sqlAsked, id.issuer[:], id.serial[:], id.hash.name, p.wallTime()); err != nil {
		p.c.Logger.LogAttrs(ctx, slog.LevelWarn, "revocation: a request was not noted", slog.Any("error", err))
	}
}

// first signs a response while somebody waits: once for all who ask for the same
// at the same time, and no longer than Wait for a turn at the HSM.
func (p *Publisher) first(ctx context.Context, id answerID, known *answer) (answer, error) {
	key := string(id.issuer[:]) + string(id.serial[:]) + id.hash.name
	if known.revoked != nil {
		// Who has seen the tombstone must not get what those asked for who had not.
		key += statusRevoked
	}
	result := p.flight.DoChan(key, func() (any, error) {
		// Of all who wait, the first one's end must not be the others'.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.c.Wait+lingerTime)
		defer cancel()
		return p.answer(ctx, id, known.revoked)
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return answer{}, r.Err
		}
		return r.Val.(answer), nil
	case <-ctx.Done():
		return answer{}, fmt.Errorf("revocation: %w: %w", fault.ErrUnavailable, ctx.Err())
	}
}

// answer finds out what is true beside the tombstone, has it signed, and stores
// it. That the verdict may be overtaken by a revocation in between does no harm:
// readers look for the tombstone, and a stored REVOKED is not replaced by GOOD.
func (p *Publisher) answer(ctx context.Context, id answerID, t *tombstone) (answer, error) {
	issuer, err := p.c.Authority.Issuer(ctx, id.issuer)
	if err != nil {
		return answer{}, err
	}
	v := verdict{issuer: &issuer, serial: id.serial, hash: id.hash, thisUpdate: p.c.Now().UTC().Truncate(time.Second)}
	out := answer{status: statusGood, asked: p.wallTime()}
	var end time.Time
	if t != nil {
		v.revoked, v.reason, v.revokedAt, end = true, t.reason, t.at, t.notAfter
		clip(&v.revokedAt, v.thisUpdate)
		out.status = statusRevoked
	} else if end, err = p.c.Authority.NotAfter(ctx, id.issuer, id.serial); err != nil {
		return answer{}, err
	}
	if v.thisUpdate.After(end) {
		return answer{}, fmt.Errorf("%w: expired", ErrUnknownCertificate)
	}
	wait, cancel := context.WithTimeout(ctx, p.c.Wait)
	defer cancel()
	release, err := p.lane(wait)
	if err != nil {
		return answer{}, err
	}
	defer release()
	der, err := p.signAnswer(ctx, &v)
	if err != nil {
		return answer{}, err
	}
	refresh := v.thisUpdate.Add(v.nextUpdate.Sub(v.thisUpdate) / 2)
	if _, err := p.c.DB.Exec(ctx, sqlStoreAnswer, id.issuer[:], id.serial[:], id.hash.name, out.status,
		v.thisUpdate, v.nextUpdate, der, out.asked, refresh); err != nil {
		return answer{}, fmt.Errorf("revocation: store OCSP response: %w", pg.Unavailable(err))
	}
	// Revoked while the HSM worked: the caller must not get the old verdict.
	if !v.revoked {
		after, err := p.stored(ctx, id)
		if err != nil {
			return answer{}, err
		}
		if after.revoked != nil {
			return answer{}, fmt.Errorf("%w: revoked meanwhile", ErrBusy)
		}
	}
	out.doc = newDocument(der, v.thisUpdate, v.nextUpdate)
	return out, nil
}

func (p *Publisher) signAnswer(ctx context.Context, v *verdict) ([]byte, error) {
	responder, key, err := p.delegateKey(ctx, v.issuer, answers)
	if err != nil {
		return nil, err
	}
	v.nextUpdate = v.thisUpdate.Add(p.c.OCSPValidity)
	for _, end := range []time.Time{responder.NotAfter, v.issuer.Certificate.NotAfter} {
		if v.nextUpdate.After(end) {
			v.nextUpdate = end.UTC()
		}
	}
	start := time.Now()
	der, err := v.sign(responder, key)
	p.metrics.signed("ocsp", start, err)
	return der, err
}

// refreshAnswers signs anew what is still asked for and comes to its end, and
// what a revocation has made wrong, and drops the rest: one batch, within its
// lease. What it does not come to is due again when that is over. There is more
// to do at once when the batch was full and the HSM is well.
func (p *Publisher) refreshAnswers(ctx context.Context) (more bool, err error) {
	ids, err := p.claimAnswers(ctx)
	if err != nil {
		return false, err
	}
	work, cancel := context.WithTimeout(ctx, p.c.Lease*9/10)
	defer cancel()
	failed := 0
	for _, id := range ids {
		if work.Err() != nil {
			return false, nil
		}
		if err := p.refreshAnswer(work, id); err != nil {
			failed++
			p.c.Logger.LogAttrs(ctx, slog.LevelWarn, "revocation: an OCSP response could not be refreshed",
				slog.String("issuer", id.issuer.String()), slog.String("serial", id.serial.String()), slog.Any("cause", err))
		}
	}
	now := p.wallTime()
	if _, err := p.c.DB.Exec(ctx, sqlForgetAnswers, now, now.Add(-p.c.OCSPValidity)); err != nil {
		return false, fmt.Errorf("revocation: drop OCSP responses: %w", pg.Unavailable(err))
	}
	return failed == 0 && len(ids) == dueAnswers, nil
}

func (p *Publisher) refreshAnswer(ctx context.Context, id answerID) error {
	ctx, cancel := context.WithTimeout(ctx, p.c.Wait+lingerTime)
	defer cancel()
	known, err := p.stored(ctx, id)
	if err != nil {
		return err
	}
	_, err = p.answer(ctx, id, known.revoked)
	if errors.Is(err, ErrNoIssuer) || errors.Is(err, ErrUnknownCertificate) {
		// Expired, or its CA signs no more: what is stored is the last one.
		_, err = p.c.DB.Exec(ctx, sqlForgetAnswer, id.issuer[:], id.serial[:])
	}
	return err
}

func (p *Publisher) claimAnswers(ctx context.Context) ([]answerID, error) {
	now := p.wallTime()
	rows, err := p.c.DB.Query(ctx, sqlClaimAnswers, now, now.Add(p.c.Lease), now.Add(-p.c.OCSPValidity), dueAnswers)
	if err != nil {
		return nil, fmt.Errorf("revocation: due OCSP responses: %w", pg.Unavailable(err))
	}
	ids, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (id answerID, err error) {
		var key, serial []byte
		var hash string
		err = r.Scan(&key, &serial, &hash)
		copy(id.issuer[:], key)
		copy(id.serial[:], serial)
		id.hash = hashNamed(hash)
		return id, err
	})
	if err != nil {
		return nil, fmt.Errorf("revocation: due OCSP responses: %w", pg.Unavailable(err))
	}
	return ids, nil
}
