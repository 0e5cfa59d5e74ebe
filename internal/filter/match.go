package filter

import (
	"cmp"
	"math/big"
	"slices"
	"strings"
)

// Match judges a row in memory; row returns its value of a property. It is the
// reference for what the SQL means.
func (e Expr) Match(row func(name string) Value) bool {
	return e.root == nil || e.root.match(row)
}

func (g group) match(row func(string) Value) bool {
	for _, n := range g.nodes {
		if n.match(row) == g.or {
			return g.or
		}
	}
	return !g.or
}

func (c condition) match(row func(string) Value) bool {
	v := row(c.name)
	negated := c.op == unequal || c.op == noneOf
	switch {
	case len(c.values) == 0: // null
		return !v.set != negated
	case !v.set:
		return negated
	}
	if c.fold != nil {
		v.text = c.fold.apply(v.text)
	}
	holds := func(w value) bool { return c.holds(v, w) }
	return slices.ContainsFunc(c.values, holds) != negated
}

// holds compares a row's value with a filter's, without negation.
func (c condition) holds(v Value, w value) bool {
	switch c.op {
	case starts:
		return strings.HasPrefix(v.text, w.text)
	case ends:
		return strings.HasSuffix(v.text, w.text)
	case contains:
		return strings.Contains(v.text, w.text)
	case like:
		return matchLike([]rune(v.text), []rune(w.text))
	}
	order := c.compare(v, w)
	switch c.op {
	case less:
		return order < 0
	case atMost:
		return order <= 0
	case greater:
		return order > 0
	case atLeast:
		return order >= 0
	default: // = != in !in
		return order == 0
	}
}

func (c condition) compare(v Value, w value) int {
	switch c.field.Kind {
	case Number:
		return new(big.Rat).SetInt64(v.num).Cmp(w.num)
	case Time:
		return v.at.Compare(w.at)
	default:
		return cmp.Compare(v.text, w.text) // UTF-8 orders like its code points
	}
}

// matchLike is SQL's like without an escape character. On a mismatch it goes back
// to the last % only, which keeps it within the product of the lengths.
func matchLike(text, pattern []rune) bool {
	t, p, percent, resume := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '%':
			percent, resume = p, t
			p++
		case p < len(pattern) && (pattern[p] == '_' || pattern[p] == text[t]):
			t++
			p++
		case percent >= 0:
			resume++
			t, p = resume, percent+1
		default:
			return false
		}
	}
	return strings.Trim(string(pattern[p:]), "%") == ""
}
