package filter_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/filter"
)

// The properties of the five lists that have a filter, with their rules.
var (
	signers = filter.Fields{Bare: "%.", Names: map[string]filter.Field{
		"name": {Column: "t"}, "id": {Column: "u"}, "state": {Column: "u"},
		"createdAt": {Column: "at", Kind: filter.Time}, "updatedAt": {Column: "at", Kind: filter.Time},
		"generation": {Column: "n", Kind: filter.Number},
	}}
	certificates = filter.Fields{Bare: "%.", Names: map[string]filter.Field{
		"certRef": {Column: "t"}, "status": {Column: "t"}, "user": {Column: "u"}, "client": {Column: "u"}, "profile": {Column: "t"},
	}}
	clients = filter.Fields{Bare: ".", Names: map[string]filter.Field{
		"appName": {Column: "t"}, "astClientId": {Column: "u"}, "appPlatform": {Column: "t"},
		"sdkVersion": {Column: "t"}, "appVersion": {Column: "t"}, "lockState": {Column: "t"},
	}}
	properties = filter.Fields{Bare: "%.", Names: map[string]filter.Field{"name": {Column: "t"}, "id": {Column: "u"}, "value": {Column: "u"}}}
)

// row is a row of the test's own list: two texts, a number and a time.
type row struct {
	T, U *string
	N    *int64
	At   *time.Time
}

func (r row) value(name string) filter.Value {
	switch f := signers.Names[name]; {
	case f.Column == "t" && r.T != nil:
		return filter.String(*r.T)
	case f.Column == "u" && r.U != nil:
		return filter.String(*r.U)
	case f.Column == "n" && r.N != nil:
		return filter.Int(*r.N)
	case f.Column == "at" && r.At != nil:
		return filter.Instant(*r.At)
	}
	return filter.Null
}

func ptr[T any](v T) *T { return &v }

func named(s string) row { return row{T: &s, U: &s} }

func parse(tb testing.TB, text string) filter.Expr {
	tb.Helper()
	e, err := filter.Parse(text, signers)
	require.NoError(tb, err, text)
	return e
}

// pieces are what generated values and rows are made of: letters in both cases
// and of several alphabets, all that means something to SQL, to like or to the
// language, and characters beyond the basic plane.
var pieces = []string{
	"a", "A", "b", "B", "k", "K", "\u212a", "i", "I", "ı", "İ", "z", "0", "7", "-", "_", "%", ".", " ", `\`, `\\`, "'", `"`, "`", "$1", "/*", "--",
	";", "ß", "ẞ", "ü", "Ü", "ſ", "s", "σ", "ς", "Σ", "µ", "μ", "Ж", "ж", "Ǆ", "ǅ", "ǆ", "e\u0301", "é", "É", "漢", "😀", "🏳️‍🌈", "\u200d", "\t", "\n", "\x01", "\U0010ffff",
}

type generator struct{ *rand.Rand }

func (g generator) pick(from ...string) string { return from[g.IntN(len(from))] }

func (g generator) text() string {
	var b strings.Builder
	for range g.IntN(6) {
		b.WriteString(g.pick(pieces...))
	}
	return b.String()
}

func (g generator) row() row {
	var r row
	if g.IntN(5) > 0 {
		r.T = ptr(g.text())
	}
	if g.IntN(5) > 0 {
		r.U = ptr(g.text())
	}
	if g.IntN(5) > 0 {
		r.N = ptr(int64(g.IntN(9) - 3))
	}
	if g.IntN(5) > 0 {
		r.At = ptr(time.UnixMicro(1763774400e6 + int64(g.IntN(3))*86400e6 + int64(g.IntN(3))).UTC())
	}
	return r
}

// filter writes a filter that is right. Its values are often a row's, or a part
// of one in the other case, so that the verdicts are not all false.
func (g generator) filter(rows []row, depth int) string {
	switch n := g.IntN(10); {
	case depth > 0 && n < 3:
		return g.filter(rows, depth-1) + g.pick(" and ", " AND ", "&&", " && ") + g.filter(rows, depth-1)
	case depth > 0 && n < 6:
		return g.filter(rows, depth-1) + g.pick(" or ", " OR ", "||", "\t||\n") + g.filter(rows, depth-1)
	case depth > 0 && n < 8:
		return "(" + g.filter(rows, depth-1) + ")"
	}
	name := g.pick("name", "id", "name", "id", "generation", "createdAt")
	r := rows[g.IntN(len(rows))]
	value := func() string { return g.quoted(name, r) }
	blank, flags := g.pick("", " ", "  "), g.pick("", "", "[i]", " [I]", "[]")
	ops := []string{"=", "!=", "<>", "<", "<=", ">", ">="}
	if name == "name" || name == "id" {
		ops = append(ops, "^=", "$=", "*=", " like ", "*=", " like ")
	}
	switch g.IntN(8) {
	case 0:
		return name + blank + g.pick("=", "!=", "<>") + blank + g.pick("null", "NULL")
	case 1, 2:
		list := value()
		for range g.IntN(3) {
			list += blank + "," + blank + value()
		}
		return name + g.pick(" in", " !in", "!in") + blank + "{" + blank + list + blank + "}" + flags
	}
	return name + blank + g.pick(ops...) + blank + value() + flags
}

func (g generator) quoted(name string, r row) string {
	switch name {
	case "generation":
		return g.pick("-1", "0", "1", "2", "2.0", "1.5", `"3"`, "-0", "99999999999999999999")
	case "createdAt":
		return g.pick("2025-11-22", "'2025-11-22T01:20:00+01:20'", `"2025-11-23T00:00:00.000001Z"`, "`2025-11-24T00:00:00.000002Z`", "'0001-01-01T00:00:00Z'", "'9999-12-31T23:59:59.999999-12:00'")
	}
	s := g.text()
	if from := []*string{r.T, r.U}[g.IntN(2)]; from != nil && g.IntN(3) > 0 {
		s = *from
		if runes := []rune(s); len(runes) > 1 && g.IntN(2) == 0 {
			s = string(runes[g.IntN(len(runes)):])
		}
		switch g.IntN(4) {
		case 0:
			s = strings.ToUpper(s)
		case 1:
			s = strings.ToLower(s)
		case 2:
			s += "%"
		}
	}
	for _, quote := range []string{"'", `"`, "`"} {
		if !strings.Contains(s, quote) {
			return quote + s + quote
		}
	}
	return "'" + strings.ReplaceAll(s, "'", "") + "'"
}
