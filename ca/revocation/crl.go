package revocation

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/pg"
)

// shardID names one CRL.
type shardID struct {
	issuer KeyID
	shard  int
}

// dueShard is a CRL that is out of date, and the number it was seen with.
type dueShard struct {
	shardID
	number int64
}

// claim is a CRL that this node has taken on.
type claim struct {
	shardID
	number int64     // of the CRL to be made
	before time.Time // thisUpdate of the published one; zero = none
}

// entries is what a CRL is made of.
type entries struct {
	listed  []x509.RevocationListEntry
	pending [][]byte // serials that this CRL lists first
	expired [][]byte // serials that left with this CRL
}

// ensure makes the rows of issuers that are new, so that a CA has its CRLs from
// the start and not from its first revocation, and takes up those of an issuer
// that may sign again. Now and then all of them are: a node that is configured
// otherwise, while one issuer follows another, may have parked one of ours.
func (p *Publisher) ensure(ctx context.Context) error {
	issuers, err := p.c.Authority.Issuers(ctx)
	if err != nil {
		return fmt.Errorf("revocation: issuers: %w", err)
	}
	if at := p.c.Now(); at.Sub(p.ensuredAt) >= ensureEvery {
		p.ensured, p.ensuredAt = nil, at
	}
	var keys [][]byte
	var shards []int32
	now := make(map[shardID]struct{}, len(p.ensured))
	for _, i := range issuers {
		for s := range i.Shards {
			id := shardID{i.KeyID(), s}
			now[id] = struct{}{}
			if _, ok := p.ensured[id]; !ok {
				keys, shards = append(keys, id.issuer[:]), append(shards, int32(s))
			}
		}
	}
	if len(keys) > 0 {
		if _, err := p.c.DB.Exec(ctx, sqlEnsureShards, keys, shards, p.wallTime()); err != nil {
			return fmt.Errorf("revocation: record CRLs: %w", pg.Unavailable(err))
		}
	}
	p.ensured = now
	return nil
}

func (p *Publisher) due(ctx context.Context) ([]dueShard, error) {
	rows, err := p.c.DB.Query(ctx, sqlDue, p.wallTime(), dueShards)
	if err != nil {
		return nil, fmt.Errorf("revocation: due CRLs: %w", pg.Unavailable(err))
	}
	due, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (d dueShard, err error) {
		var key []byte
		err = r.Scan(&key, &d.shard, &d.number)
		copy(d.issuer[:], key)
		return d, err
	})
	if err != nil {
		return nil, fmt.Errorf("revocation: due CRLs: %w", pg.Unavailable(err))
	}
	return due, nil
}

// rebuild makes and publishes one CRL, unless another node is at it. No row is
// locked while the HSM works: the claim is a number and a time.
func (p *Publisher) rebuild(ctx context.Context, d dueShard) {
	work, cancel := context.WithTimeout(ctx, p.c.Lease*9/10)
	defer cancel()
	c := claim{shardID: d.shardID}
	now := p.wallTime()
	var before *time.Time
	err := p.c.DB.QueryRow(work, sqlClaim, d.issuer[:], d.shard, d.number, now.Add(p.c.Lease), now).Scan(&c.number, &before)
	if errors.Is(err, pgx.ErrNoRows) {
		return // another node was faster
	}
	if err == nil {
		if before != nil {
			c.before = *before
		}
		err = p.publish(work, c)
	}
	p.metrics.built(err)
	if err == nil {
		return
	}
	p.c.Logger.LogAttrs(ctx, slog.LevelError, "revocation: a CRL could not be made", slog.String("issuer", d.issuer.String()),
		slog.Int("shard", d.shard), slog.Any("cause", err))
	p.giveBack(ctx, c, err)
}

// giveBack ends a claim that led to nothing. A CA that may not sign any more is
// left alone from now on; everything else is tried again after a pause.
func (p *Publisher) giveBack(ctx context.Context, c claim, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lingerTime)
	defer cancel()
	var err error
	if errors.Is(cause, ErrNoIssuer) {
		_, err = p.c.DB.Exec(ctx, sqlPark, c.issuer[:], c.shard, c.number)
	} else {
		_, err = p.c.DB.Exec(ctx, sqlYield, c.issuer[:], c.shard, c.number, p.wallTime().Add(retryPause))
	}
	if err != nil { // the lease ends by itself
		p.c.Logger.LogAttrs(ctx, slog.LevelWarn, "revocation: a claim could not be given back", slog.Any("error", err))
	}
}

func (p *Publisher) publish(ctx context.Context, c claim) error {
	issuer, err := p.c.Authority.Issuer(ctx, c.issuer)
	if err != nil {
		return err
	}
	// The time first: what is revoked from here on is younger than the CRL.
	thisUpdate := p.c.Now().UTC().Truncate(time.Second)
	if thisUpdate.Before(c.before) { // another node's clock is ahead
		thisUpdate = c.before.UTC()
	}
	list, err := p.entries(ctx, c)
	if err != nil {
		return err
	}
	for i := range list.listed {
		clip(&list.listed[i].RevocationTime, thisUpdate)
	}
	signer, err := p.crlSigner(ctx, &issuer)
	if err != nil {
		return err
	}
	template := &x509.RevocationList{
		Number: big.NewInt(c.number), ThisUpdate: thisUpdate, NextUpdate: thisUpdate.Add(p.c.CRLValidity),
		RevokedCertificateEntries: list.listed,
	}
	if signer != issuer.Certificate && template.NextUpdate.After(signer.NotAfter) {
		template.NextUpdate = signer.NotAfter.UTC() // nobody would believe it any longer
	}
	if issuer.Shards > 1 {
		if p.c.URL == "" {
			return fmt.Errorf("%w: an issuer with %d CRLs needs the URL", ErrConfig, issuer.Shards)
		}
		scope, err := scopeExtension(CRLURL(p.c.URL, c.issuer, c.shard))
		if err != nil {
			return err
		}
		template.ExtraExtensions = []pkix.Extension{scope}
	}
	if signer != issuer.Certificate && p.c.URL != "" {
		where, err := signerExtension(CRLSignerURL(p.c.URL, c.issuer))
		if err != nil {
			return err
		}
		template.ExtraExtensions = append(template.ExtraExtensions, where)
	}
	der, err := p.sign(ctx, &issuer, signer, template)
	if err != nil {
		return err
	}
	if err := checkCRL(der, &issuer, signer, template); err != nil {
		return err
	}
	return p.store(ctx, c, template, list, der)
}

// entries reads the tombstones of a shard. An expired certificate leaves once it
// has been on a CRL made after its end (RFC 5280 section 3.3).
func (p *Publisher) entries(ctx context.Context, c claim) (e entries, err error) {
	rows, err := p.c.DB.Query(ctx, sqlEntries, c.issuer[:], c.shard)
	if err != nil {
		return e, fmt.Errorf("revocation: read entries: %w", pg.Unavailable(err))
	}
	var (
		serial   []byte
		reason   int16
		at, end  time.Time
		since    *time.Time
		pending  bool
		scanning = []any{&serial, &reason, &at, &since, &end, &pending}
	)
	_, err = pgx.ForEachRow(rows, scanning, func() error {
		own := append([]byte(nil), serial...)
		if !pending && end.Before(c.before) {
			e.expired = append(e.expired, own)
			return nil
		}
		if pending {
			e.pending = append(e.pending, own)
		}
		entry := x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(own), RevocationTime: at.UTC().Truncate(time.Second), ReasonCode: int(reason)}
		if since != nil {
			x, err := invalidityDate(*since)
			if err != nil {
				return err
			}
			entry.ExtraExtensions = []pkix.Extension{x}
		}
		e.listed = append(e.listed, entry)
		return nil
	})
	if err != nil {
		return entries{}, fmt.Errorf("revocation: read entries: %w", pg.Unavailable(err))
	}
	return e, nil
}

// clip moves a revocation by a node whose clock is ahead to the time of what
// tells about it: verifiers take a date in the future for none.
func clip(at *time.Time, thisUpdate time.Time) {
	if at.After(thisUpdate) {
		*at = thisUpdate
	}
}

// crlSigner returns the certificate of whose key signs the issuer's CRLs: its own,
// or that of the other key.
func (p *Publisher) crlSigner(ctx context.Context, issuer *Issuer) (*x509.Certificate, error) {
	if !p.c.OwnCRLKey {
		return issuer.Certificate, nil
	}
	signer, _, err := p.delegateKey(ctx, issuer, lists)
	return signer, err
}

func (p *Publisher) sign(ctx context.Context, issuer *Issuer, signer *x509.Certificate, template *x509.RevocationList) ([]byte, error) {
	release, err := p.lane(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	start := time.Now()
	find := p.c.Authority.IssuerKey
	if signer != issuer.Certificate {
		find = p.c.Authority.CRLKey
	}
	key, err := find(ctx, issuer.KeyID())
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, signer, key)
	p.metrics.signed("crl", start, err)
	if err != nil {
		return nil, fmt.Errorf("revocation: sign CRL: %w", err)
	}
	return der, nil
}

// store publishes. The CRL that other nodes serve and the number of it change in
// one statement; a claim that was lost to another node publishes nothing.
func (p *Publisher) store(ctx context.Context, c claim, l *x509.RevocationList, list entries, der []byte) error {
	err := pg.InTx(ctx, p.c.DB, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sqlPublish, c.issuer[:], c.shard, c.number, l.ThisUpdate, l.NextUpdate, len(list.listed), der,
			l.ThisUpdate.Add(l.NextUpdate.Sub(l.ThisUpdate)/2))
		if err != nil {
			return err
		}
		if tag.RowsAffected() != 1 {
			return fmt.Errorf("%w: the claim on a CRL was lost", ErrRecord)
		}
		if err := move(ctx, tx, c.issuer, list.pending, "LISTED"); err != nil {
			return err
		}
		return move(ctx, tx, c.issuer, list.expired, "DROPPED")
	})
	if err != nil {
		return fmt.Errorf("revocation: publish CRL: %w", pg.Unavailable(err))
	}
	return nil
}

// move changes the state of tombstones, some at a time: statements have a limit.
func move(ctx context.Context, tx pgx.Tx, issuer KeyID, serials [][]byte, state string) error {
	for some := range slices.Chunk(serials, moveRows) {
		if _, err := tx.Exec(ctx, sqlMove, issuer[:], some, state); err != nil {
			return err
		}
	}
	return nil
}
