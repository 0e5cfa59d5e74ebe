package access

import (
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/tenant"
)

// LimiterConfig bounds the calls that are at work at once in this process.
type LimiterConfig struct {
	PerCredential int // 0: 4,096
	Total         int // 0: 16,384
	Metrics       prometheus.Registerer
}

// Limiter bounds how many calls each credential, and all together, have at work.
// What is above a bound is refused at once, with ErrBusy: work that waits in a
// queue until its caller is gone helps nobody.
//
// It is fair: when all together have reached Total, a credential that has less than
// its share (Total, divided by those that are at work) still gets in. So nobody is
// kept out by what another one sends, and no more than twice Total are at work.
type Limiter struct {
	per, total int

	mu     sync.Mutex
	atWork int
	held   map[holder]int // no entry is zero

	gauge         prometheus.GaugeFunc
	tooMany, full prometheus.Counter
}

type holder struct {
	tenant tenant.ID
	name   string
}

// NewLimiter makes a Limiter.
func NewLimiter(c LimiterConfig) (*Limiter, error) {
	if c.PerCredential < 0 || c.Total < 0 {
		return nil, fmt.Errorf("limiter: %w: bounds must not be negative", ErrConfig)
	}
	if c.PerCredential == 0 {
		c.PerCredential = 4096
	}
	if c.Total == 0 {
		c.Total = 16384
	}
	l := &Limiter{per: c.PerCredential, total: c.Total, held: map[holder]int{}}
	l.gauge = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "signet_access_at_work", Help: "Calls at work that have credentials; a batch counts for the checks it has at work.",
	}, func() float64 {
		l.mu.Lock()
		defer l.mu.Unlock()
		return float64(l.atWork)
	})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "signet_access_busy_total", Help: "Calls refused because too many were at work, of their credential or of all.",
	}, []string{"bound"})
	l.tooMany, l.full = refused.WithLabelValues("credential"), refused.WithLabelValues("total")
	if c.Metrics != nil {
		if err := errors.Join(c.Metrics.Register(l.gauge), c.Metrics.Register(refused)); err != nil {
			return nil, fmt.Errorf("limiter: metrics: %w", err)
		}
	}
	return l, nil
}

// Pass is the right to be at work. The zero Pass is nobody's, and leaving it does
// nothing.
type Pass struct {
	limiter *Limiter
	holder  holder
	weight  int
}

// Enter lets a call of p to work that counts for weight (at least 1) others, until
// its pass is left. A nil Limiter lets everybody in. Error: ErrBusy.
func (l *Limiter) Enter(p *Principal, weight int) (Pass, error) {
	if l == nil {
		return Pass{}, nil
	}
	weight = max(1, weight)
	h := holder{p.Tenant, p.Name}
	l.mu.Lock()
	mine, known := l.held[h]
	with := mine + weight
	holders := len(l.held)
	if !known {
		holders++
	}
	switch {
	case known && with > l.per: // a batch that is more than the bound may be alone
		l.mu.Unlock()
		l.tooMany.Inc()
		return Pass{}, ErrBusy
	case l.atWork+weight > l.total && with > max(1, l.total/holders):
		l.mu.Unlock()
		l.full.Inc()
		return Pass{}, ErrBusy
	}
	l.held[h] = with
	l.atWork += weight
	l.mu.Unlock()
	return Pass{l, h, weight}, nil
}

// Leave ends the work. Call it once.
func (p Pass) Leave() {
	l := p.limiter
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.atWork -= p.weight
	if left := l.held[p.holder] - p.weight; left > 0 {
		l.held[p.holder] = left
	} else {
		delete(l.held, p.holder)
	}
}
