package load

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// Summary is what a Run came to. Times are milliseconds.
type Summary struct {
	Seconds float64          `json:"seconds"`
	Rate    float64          `json:"rate"` // calls answered well a second
	OK      int64            `json:"ok"`
	Wrong   int64            `json:"wrong"`   // answered, and wrongly
	Refused int64            `json:"refused"` // the server could not then
	Failed  int64            `json:"failed"`  // anything else
	Kinds   map[string]Kind  `json:"kinds"`
	Errors  map[string]int64 `json:"errors,omitempty"` // how often each was met
}

// Kind is one kind of call.
type Kind struct {
	Rate    float64 `json:"rate"`
	OK      int64   `json:"ok"`
	Wrong   int64   `json:"wrong"`
	Refused int64   `json:"refused"`
	Failed  int64   `json:"failed"`
	Times   Times   `json:"milliseconds"` // of those answered well
}

// Times are quantiles.
type Times struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

func (r *run) summary() Summary {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Summary{Seconds: time.Since(r.began).Seconds(), Kinds: map[string]Kind{}, Errors: maps.Clone(r.texts)}
	for name, k := range r.kinds {
		ms := func(us int64) float64 { return float64(us) / 1000 }
		s.Kinds[name] = Kind{
			Rate: float64(k.ok) / s.Seconds, OK: k.ok, Wrong: k.wrong, Refused: k.refused, Failed: k.failed,
			Times: Times{
				Mean: k.times.Mean() / 1000, P50: ms(k.times.ValueAtQuantile(50)), P90: ms(k.times.ValueAtQuantile(90)),
				P99: ms(k.times.ValueAtQuantile(99)), P999: ms(k.times.ValueAtQuantile(99.9)), Max: ms(k.times.Max()),
			},
		}
		s.OK, s.Wrong, s.Refused, s.Failed = s.OK+k.ok, s.Wrong+k.wrong, s.Refused+k.refused, s.Failed+k.failed
	}
	s.Rate = float64(s.OK) / s.Seconds
	return s
}

// Write prints it for people.
func (s Summary) Write(w io.Writer) {
	fmt.Fprintf(w, "%-10s %9s %10s %8s %8s %8s %9s %9s %7s %8s %7s\n",
		"call", "ok", "per s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "wrong", "refused", "failed")
	for _, name := range slices.Sorted(maps.Keys(s.Kinds)) {
		k := s.Kinds[name]
		fmt.Fprintf(w, "%-10s %9d %10.1f %8.2f %8.2f %8.2f %9.2f %9.2f %7d %8d %7d\n",
			name, k.OK, k.Rate, k.Times.P50, k.Times.P90, k.Times.P99, k.Times.P999, k.Times.Max, k.Wrong, k.Refused, k.Failed)
	}
	fmt.Fprintf(w, "%d calls answered well in %.1f s, %.1f a second; %d wrong, %d refused, %d failed\n",
		s.OK, s.Seconds, s.Rate, s.Wrong, s.Refused, s.Failed)
	for _, text := range slices.Sorted(maps.Keys(s.Errors)) {
		fmt.Fprintf(w, "  %d x %s\n", s.Errors[text], text)
	}
}
