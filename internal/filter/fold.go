package filter

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// folding makes comparisons blind to case, in the same way here and in SQL: A-Z
// become a-z, then each character of from becomes the one at its place in to.
//
// A letter of a row that equals no letter of the filter's values in any case can
// not make the two equal, so only the letters of the values need a place here.
type folding struct {
	from, to []rune
	letters  int // different ones that were folded
}

// newFolding collects the letters beyond ASCII of the values. An ASCII letter's
// relatives (the Kelvin sign is one of k) stay what they are.
func newFolding(values []value) *folding {
	f := &folding{}
	seen := map[rune]bool{}
	for _, v := range values {
		for _, c := range v.text {
			if c < utf8.RuneSelf || seen[c] {
				continue
			}
			family := []rune{c}
			for r := unicode.SimpleFold(c); r != c; r = unicode.SimpleFold(r) {
				if r >= utf8.RuneSelf {
					family = append(family, r)
				}
			}
			chief := family[0]
			for _, r := range family {
				seen[r] = true
				chief = min(chief, r)
			}
			if l := unicode.ToLower(chief); slices.Contains(family, l) {
				chief = l
			}
			if len(family) > 1 {
				f.letters++
			}
			for _, r := range family {
				if r != chief {
					f.from, f.to = append(f.from, r), append(f.to, chief)
				}
			}
		}
	}
	return f
}

func (f *folding) apply(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' {
			return c + 'a' - 'A'
		}
		if c >= utf8.RuneSelf {
			for i, from := range f.from {
				if c == from {
					return f.to[i]
				}
			}
		}
		return c
	}, s)
}
