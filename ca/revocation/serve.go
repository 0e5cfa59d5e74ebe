package revocation

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/pg"
)

// Document is something signed, ready to be sent. The bytes must not be changed.
type Document struct {
	DER        []byte
	ThisUpdate time.Time
	NextUpdate time.Time // nobody should rely on it from here on
	Tag        string    // differs between documents; hex
}

func newDocument(der []byte, thisUpdate, nextUpdate time.Time) Document {
	sum := sha256.Sum256(der)
	return Document{DER: der, ThisUpdate: thisUpdate.UTC(), NextUpdate: nextUpdate.UTC(), Tag: hex.EncodeToString(sum[:16])}
}

// IssuerCertificate returns the certificate of a CA that may sign. ErrNoIssuer.
func (p *Publisher) IssuerCertificate(ctx context.Context, id KeyID) (Document, error) {
	i, err := p.c.Authority.Issuer(ctx, id)
	if err != nil {
		return Document{}, err
	}
	return newDocument(i.Certificate.Raw, i.Certificate.NotBefore, i.Certificate.NotAfter), nil
}

// CRLSigner returns the newest certificate of the key that signs an issuer's CRLs
// in its place; ErrNoIssuer when it never had one. It is told after the issuer's
// end too, as long as the last CRL counts.
func (p *Publisher) CRLSigner(ctx context.Context, id KeyID) (Document, error) {
	c, _, err := p.storedDelegate(ctx, id, lists)
	switch {
	case err != nil:
		return Document{}, err
	case c == nil || p.c.Now().After(c.NotAfter):
		return Document{}, ErrNoIssuer
	}
	return newDocument(c.Raw, c.NotBefore, c.NotAfter), nil
}

// CRL returns the published CRL. When the database is out, the last one that was
// served here is served until its nextUpdate. Errors: ErrNoCRL; ErrNotPublished
// when the first CRL is still to come or the last one is past its nextUpdate;
// fault.ErrUnavailable.
func (p *Publisher) CRL(ctx context.Context, issuer KeyID, shard int) (Document, error) {
	id := shardID{issuer, shard}
	d, parked, err := p.crl(ctx, id)
	if err != nil {
		if !errors.Is(err, ErrNoCRL) && !errors.Is(err, ErrNotPublished) {
			if _, held, ok := p.crls.get(id); ok && p.c.Now().Before(held.NextUpdate) {
				return held, nil
			}
		}
		return Document{}, err
	}
	switch {
	case p.c.Now().Before(d.NextUpdate):
		return d, nil
	case parked:
		return Document{}, ErrNoCRL
	default:
		return Document{}, fmt.Errorf("%w: nextUpdate was %s", ErrNotPublished, d.NextUpdate.Format(time.RFC3339))
	}
}

// crl asks the database which CRL is the published one, and reads it only when
// it is not in memory. parked means that there will be no other.
func (p *Publisher) crl(ctx context.Context, id shardID) (_ Document, parked bool, _ error) {
	var number *int64
	var this, next *time.Time
	scan := func(sql string, more ...any) error {
		err := p.c.DB.QueryRow(ctx, sql, id.issuer[:], id.shard).Scan(append([]any{&number, &this, &next, &parked}, more...)...)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return ErrNoCRL
		case err != nil:
			return fmt.Errorf("revocation: read CRL: %w", pg.Unavailable(err))
		case number == nil && parked:
			return ErrNoCRL
		case number == nil:
			return ErrNotPublished
		}
		return nil
	}
	if err := scan(sqlCRLHead); err != nil {
		return Document{}, false, err
	}
	if held, d, ok := p.crls.get(id); ok && held == *number {
		return d, parked, nil
	}
	var der []byte
	if err := scan(sqlCRL, &der); err != nil {
		return Document{}, false, err
	}
	d := newDocument(der, *this, *next)
	p.crls.put(id, *number, d)
	return d, parked, nil
}

// crlCache holds the CRLs served last, up to a number of bytes.
type crlCache struct {
	limit int
	mu    sync.Mutex
	size  int
	order list.List // of *heldCRL, the one served last in front
	held  map[shardID]*list.Element
}

type heldCRL struct {
	id     shardID
	number int64
	doc    Document
}

func (c *crlCache) get(id shardID) (int64, Document, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.held[id]
	if !ok {
		return 0, Document{}, false
	}
	c.order.MoveToFront(e)
	h := e.Value.(*heldCRL)
	return h.number, h.doc, true
}

func (c *crlCache) put(id shardID, number int64, d Document) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = map[shardID]*list.Element{}
	}
	if e, ok := c.held[id]; ok {
		if e.Value.(*heldCRL).number > number {
			return // a slower reader comes with an older one
		}
		c.drop(e)
	}
	c.held[id] = c.order.PushFront(&heldCRL{id, number, d})
	c.size += len(d.DER)
	for c.size > c.limit && c.order.Len() > 1 {
		c.drop(c.order.Back())
	}
}

func (c *crlCache) drop(e *list.Element) {
	h := c.order.Remove(e).(*heldCRL)
	delete(c.held, h.id)
	c.size -= len(h.doc.DER)
}
