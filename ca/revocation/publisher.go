package revocation

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
)

// DB is the part of a pgx pool that the publisher uses.
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Config makes a Publisher. DB and Authority are required.
type Config struct {
	DB        DB
	Authority Authority
	// URL is the base of the addresses in certificates, like
	// "http://pki.example.com". An issuer with more than one CRL needs it, and
	// its CRLs only fit certificates that were issued under the same one.
	URL string

	// OwnCRLKey has CRLs signed by another key of the CA's, with a certificate in the
	// CA's name, and not by the key that signs certificates. Not every verifier
	// finds it: see the package.
	OwnCRLKey bool

	CRLValidity  time.Duration // from thisUpdate to nextUpdate; replaced after half of it; 0 = 48 h
	OCSPValidity time.Duration // likewise; 0 = 24 h
	Poll         time.Duration // how often what is out of date is looked for; 0 = 1 s
	Lease        time.Duration // how long a node may work at one CRL before another tries; 0 = 1 min
	Signers      int           // signatures asked of the HSM at a time, which issuance shares; 0 = 2
	Wait         time.Duration // how long a first OCSP request may wait for its turn; 0 = 2 s

	Random  io.Reader             // of serials; nil = crypto/rand
	Now     func() time.Time      // nil = time.Now
	Logger  *slog.Logger          // nil = silence
	Metrics prometheus.Registerer // nil = not registered
}

// Validate names the first thing that can not work.
func (c *Config) Validate() error {
	bad := func(what string) error { return fmt.Errorf("revocation: %w: %s", ErrConfig, what) }
	if c.DB == nil || c.Authority == nil {
		return bad("DB and Authority are required")
	}
	if c.URL != "" {
		// No https: whoever fetches a CRL to judge a certificate must not need
		// another certificate judged for that (RFC 5280 section 8).
		if !ValidBase(c.URL) {
			return bad("the URL must be http, without a slash at its end")
		}
	}
	for _, d := range []time.Duration{c.CRLValidity, c.OCSPValidity} {
		if d != 0 && (d < time.Minute || d > 365*24*time.Hour) {
			return bad("a validity is not within 1 min .. 1 year")
		}
	}
	if c.Poll < 0 || c.Lease < 0 || c.Lease != 0 && c.Lease < time.Second || c.Signers < 0 || c.Wait < 0 {
		return bad("a bound is out of range")
	}
	return nil
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.CRLValidity, 48*time.Hour)
	set(&c.OCSPValidity, 24*time.Hour)
	set(&c.Poll, time.Second)
	set(&c.Lease, time.Minute)
	set(&c.Wait, 2*time.Second)
	if c.Signers == 0 {
		c.Signers = 2
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Publisher keeps CRLs and OCSP responses up to date and answers for them.
type Publisher struct {
	c       Config
	metrics *metrics
	// Run's two loops, one for each.
	wakeCRLs, wakeAnswers chan struct{}
	// lanes bounds the signatures under way: an HSM is shared with issuance.
	lanes chan struct{}

	crls      crlCache
	ensured   map[shardID]struct{} // rows known to be there; publishDue's alone
	ensuredAt time.Time            // when none was thought to be
	looked    time.Time            // when the gauges were read
	flight    singleflight.Group
	delegates sync.Map // delegateID -> delegation
}

// New makes a Publisher; it touches neither database nor HSM.
func New(c Config) (*Publisher, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	p := &Publisher{
		c: c, wakeCRLs: make(chan struct{}, 1), wakeAnswers: make(chan struct{}, 1), lanes: make(chan struct{}, c.Signers),
		crls: crlCache{limit: cacheBytes}, ensured: map[shardID]struct{}{},
	}
	var err error
	if p.metrics, err = newMetrics(c.Metrics); err != nil {
		return nil, fmt.Errorf("revocation: %w: metrics: %w", ErrConfig, err)
	}
	return p, nil
}

// Wake has Run look for work now rather than at the next poll. It never blocks.
func (p *Publisher) Wake() {
	for _, c := range []chan struct{}{p.wakeCRLs, p.wakeAnswers} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Run publishes until ctx ends, then returns nil. It must not run twice at a
// time in one Publisher; any number of nodes may run one each.
func (p *Publisher) Run(ctx context.Context) error {
	// Two loops, so that no number of responses and no HSM that is slow with them
	// keeps a revocation from its CRL.
	var loops sync.WaitGroup
	loops.Go(func() { p.loop(ctx, p.wakeCRLs, p.publishDue) })
	loops.Go(func() { p.loop(ctx, p.wakeAnswers, p.refreshAnswers) })
	loops.Wait()
	return nil
}

// loop takes one turn after another, at once while there is more to do.
func (p *Publisher) loop(ctx context.Context, wake <-chan struct{}, turn func(context.Context) (more bool, err error)) {
	tick := time.NewTicker(p.c.Poll)
	defer tick.Stop()
	for ctx.Err() == nil {
		more, err := turn(ctx)
		if err != nil && ctx.Err() == nil {
			p.c.Logger.LogAttrs(ctx, slog.LevelWarn, "revocation: a round failed", slog.Any("error", err))
		}
		if more && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-wake:
		}
	}
}

// Round does once what Run's loops do in a turn, for tests: the CRLs that are
// due, and one batch of OCSP responses. Its error is that of the lists of what is
// due; what fails singly is logged, counted and due again.
func (p *Publisher) Round(ctx context.Context) error {
	if _, err := p.publishDue(ctx); err != nil {
		return err
	}
	_, err := p.refreshAnswers(ctx)
	return err
}

// publishDue makes the CRLs that are due, until there are none.
func (p *Publisher) publishDue(ctx context.Context) (more bool, err error) {
	if err := p.ensure(ctx); err != nil {
		return false, err
	}
	for more := true; more && ctx.Err() == nil; {
		due, err := p.due(ctx)
		if err != nil {
			return false, err
		}
		var g errgroup.Group
		g.SetLimit(max(1, p.c.Signers-1)) // one for OCSP
		for _, d := range due {
			g.Go(func() error { p.rebuild(ctx, d); return nil })
		}
		_ = g.Wait()
		// What failed is not due for a while, so that this ends.
		more = len(due) == dueShards
	}
	return false, p.look(ctx)
}

// lane waits for a turn at the HSM.
func (p *Publisher) lane(ctx context.Context) (release func(), err error) {
	select {
	case p.lanes <- struct{}{}:
		return func() { <-p.lanes }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("revocation: %w: %w", ErrBusy, ctx.Err())
	}
}

// wallTime is the clock as PostgreSQL keeps it.
func (p *Publisher) wallTime() time.Time { return p.c.Now().UTC().Truncate(time.Microsecond) }
