package rest

import (
	"mime"
	"strconv"
	"strings"
)

// Prefers returns the offer that the caller's Accept header likes best, and the
// first one when it does not say, likes several equally, or none.
func (r *Request) Prefers(offers ...string) string {
	best, chosen := weight{}, offers[0]
	ranges := accepted(r.http.Header.Values("Accept"))
	for _, offer := range offers {
		if w := ranges.weigh(offer); w.better(best) {
			best, chosen = w, offer
		}
	}
	return chosen
}

// weight is how much an offer is liked: by quality, then by how exactly the header
// names it.
type weight struct {
	quality float64
	exact   int // 2 the type itself, 1 its family, 0 anything
}

func (w weight) better(than weight) bool {
	return w.quality > than.quality || w.quality == than.quality && w.quality > 0 && w.exact > than.exact
}

type mediaRanges map[string]float64

// accepted reads the elements it understands: a malformed one is none.
func accepted(headers []string) mediaRanges {
	ranges := mediaRanges{}
	for _, element := range strings.Split(strings.Join(headers, ","), ",") {
		name, params, err := mime.ParseMediaType(element)
		if err != nil {
			continue
		}
		quality := 1.0
		if q, given := params["q"]; given {
			if quality, err = strconv.ParseFloat(q, 64); err != nil || !(quality >= 0 && quality <= 1) {
				continue
			}
		}
		ranges[name] = quality
	}
	return ranges
}

// weigh takes the most exact range that covers the offer.
func (m mediaRanges) weigh(offer string) weight {
	family, _, _ := strings.Cut(offer, "/")
	for i, name := range []string{offer, family + "/*", "*/*"} {
		if q, ok := m[name]; ok {
			return weight{q, 2 - i}
		}
	}
	return weight{}
}
