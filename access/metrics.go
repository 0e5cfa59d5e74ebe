package access

import "github.com/prometheus/client_golang/prometheus"

// newResults counts what became of credentials and key fetches. Labels are
// constants of this package.
func newResults(r prometheus.Registerer) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "signet_access_total",
		Help: "Credentials checked and key sets fetched, by method and result.",
	}, []string{"method", "result"})
	if r == nil {
		return c
	}
	// Realms and Basic of one process share the counter.
	if err := r.Register(c); err != nil {
		if dup, ok := err.(prometheus.AlreadyRegisteredError); ok {
			if have, ok := dup.ExistingCollector.(*prometheus.CounterVec); ok {
				return have
			}
		}
	}
	return c
}

// outcomes are the counters of one method, looked up once.
type outcomes struct{ ok, refused, unavailable prometheus.Counter }

func outcomesOf(c *prometheus.CounterVec, method string) outcomes {
	return outcomes{c.WithLabelValues(method, "ok"), c.WithLabelValues(method, "refused"), c.WithLabelValues(method, "unavailable")}
}
