package lint

import (
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signet-hsm/signet/ca/issuance"
)

// Config makes a Linter. The zero value judges every certificate in full.
type Config struct {
	Every int              // leaf certificates: one in so many in full; 0 and 1: every one
	Now   func() time.Time // of samples; nil = time.Now
}

// Linter is what the engine asks before anything is signed.
type Linter struct {
	every uint64
	now   func() time.Time

	drafts atomic.Uint64
	mu     sync.RWMutex
	moulds map[mouldKey]*mould
}

var _ issuance.Linter = (*Linter)(nil)

// New makes a Linter; it refuses a negative Every.
func New(c Config) (*Linter, error) {
	if c.Every < 0 {
		return nil, fmt.Errorf("lint: one in %d certificates", c.Every)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Linter{every: uint64(max(1, c.Every)), now: c.Now, moulds: map[mouldKey]*mould{}}, nil
}

// Candidate implements issuance.Linter.
func (l *Linter) Candidate(c *issuance.Candidate) error {
	if l.every == 1 || c.Profile().CA() || c.Profile().SelfIssued() || c.AltNames() || isSample(c.Issuer()) {
		return full(c)
	}
	t, err := parseTBS(c.TBS())
	if err != nil {
		return err
	}
	key := keyOf(c, &t)
	l.mu.RLock()
	m := l.moulds[key]
	l.mu.RUnlock()
	if m != nil && l.drafts.Add(1)%l.every != 0 {
		return m.check(&t)
	}
	if err := full(c); err != nil {
		return err
	}
	if m == nil {
		if m = newMould(c, &t); m != nil {
			l.keep(key, m)
		}
	}
	return nil
}

// keep forgets everything when there is too much: the next certificate of each
// kind is judged in full again.
func (l *Linter) keep(key mouldKey, m *mould) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.moulds) >= maxMoulds {
		clear(l.moulds)
	}
	l.moulds[key] = m
}

// full judges a draft as a whole certificate under a throw-away key.
func full(c *issuance.Candidate) error {
	key, err := standIn(c.Scheme().Algorithm())
	if err != nil {
		return err
	}
	der, err := c.SignedBy(key)
	if err != nil {
		return err
	}
	var issuer *x509.Certificate
	if a := c.Issuer(); a != nil {
		issuer = a.Certificate()
	}
	p := c.Profile().Profile()
	return Err(Profiled(der, issuer, &p))
}

// Template implements issuance.Linter: it drafts a certificate for every kind of
// key that the profile allows, once with the least and once with the most that
// can stand in one, and under issuers of several kinds.
func (l *Linter) Template(t *issuance.Template) error {
	if _, ok := passed.Load(t.Hash()); ok {
		return nil
	}
	p := t.Profile()
	for i, algorithm := range p.Keys {
		request, err := sample(algorithm, p.MinRSABits)
		if err != nil {
			return err
		}
		for _, issuer := range []x509.SignatureAlgorithm{x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.PureEd25519} {
			if i > 0 && issuer != x509.ECDSAWithSHA256 {
				continue // kinds of issuer and of subject do not meet in any rule
			}
			for _, o := range []issuance.Order{least(&p), most(&p)} {
				o.Profile, o.Request, o.Now = t, request, l.now()
				if err := judge(o, issuer); err != nil {
					return fmt.Errorf("%s key: %w", algorithm, err)
				}
			}
			if p.SelfSigned {
				break
			}
		}
	}
	passed.Store(t.Hash(), struct{}{})
	return nil
}

// passed remembers the profiles that were judged, by Profile.Hash, which covers
// every field: the rules do not change while a process runs. Profiles come from
// configuration, so they are few.
var passed sync.Map

// judge has the engine prepare a sample, which comes back as a Candidate.
func judge(o issuance.Order, issuer x509.SignatureAlgorithm) (err error) {
	p := o.Profile.Profile()
	if !p.SelfSigned {
		if o.Issuer, err = sampleIssuer(issuer, o.Now); err != nil {
			return err
		}
	}
	o.Serial = issuance.Serial{0x7f, 0xff}
	_, err = issuance.Prepare(o)
	return err
}

var errSample = errors.New("the stand-in issuer could not be made")
