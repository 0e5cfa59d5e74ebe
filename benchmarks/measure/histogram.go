package measure

import (
	"math/bits"
	"time"
)

// perOctave buckets divide each doubling.
const perOctave = 64

// histogram counts durations from 1 ns to 18 minutes (2^40 ns) and what is above.
type histogram struct {
	n      int64
	counts [41 * perOctave]uint32
}

func (h *histogram) add(d time.Duration) {
	h.n++
	h.counts[bucket(uint64(max(d, 1)))]++
}

func (h *histogram) merge(o *histogram) {
	h.n += o.n
	for i, c := range o.counts {
		h.counts[i] += c
	}
}

// quantile is the lower edge of the bucket that holds it.
func (h *histogram) quantile(q float64) time.Duration {
	left := int64(q * float64(h.n))
	for i, c := range h.counts {
		if left -= int64(c); left < 0 {
			return edge(i)
		}
	}
	return 0
}

func bucket(ns uint64) int {
	octave := bits.Len64(ns) - 1
	if octave > 40 {
		return 41*perOctave - 1
	}
	return octave*perOctave + int((ns<<6>>octave)&(perOctave-1))
}

func edge(i int) time.Duration {
	octave, part := i/perOctave, i%perOctave
	return time.Duration((uint64(perOctave+part) << octave) >> 6)
}
