package filter_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/filter"
	"github.com/signet-hsm/signet/internal/testvec"
)

func TestSQL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, sql string
		args      []any
	}{
		{"", `true`, nil},
		{"name=a", `t = $3`, []any{"a"}},
		{"name!=a", `t is distinct from $3`, []any{"a"}},
		{"name=null", `t is null`, nil},
		{"name<>null", `t is not null`, nil},
		{`name^='50%_\'`, `t collate "C" like $3`, []any{`50\%\_\\%`}},
		{`name$='50%_\'`, `t collate "C" like $3`, []any{`%50\%\_\\`}},
		{`name*='50%_\'`, `t collate "C" like $3`, []any{`%50\%\_\\%`}},
		{`name like '50%_\'`, `t collate "C" like $3`, []any{`50%_\\`}},
		{"name>a", `t collate "C" > $3`, []any{"a"}},
		{"name<=a", `t collate "C" <= $3`, []any{"a"}},
		{"name=A[i]", `lower(t collate "C") = $3`, []any{"a"}},
		{"name='Ü'[i]", `translate(lower(t collate "C"), $3, $4) = $5`, []any{"Ü", "ü", "ü"}},
		{"name in {a,b}", `t in ($3, $4)`, []any{"a", "b"}},
		{"name !in {a,b}", `(t is null or t not in ($3, $4))`, []any{"a", "b"}},
		{"generation>=1.5", `n >= cast($3 as numeric)`, []any{"1.5"}},
		{"createdAt<2026-11-22", `at < $3`, []any{time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}},
		{"name=a and (id=b or id=c)", `(t = $3 and (u = $4 or u = $5))`, []any{"a", "b", "c"}},
	} {
		sql, args := parse(t, c.text).SQL(3)
		require.Equal(t, c.sql, sql, c.text)
		require.Equal(t, c.args, args, c.text)
	}
	both := filter.And(parse(t, "name=a or id=b"), parse(t, ""), parse(t, "id=c"))
	sql, args := both.SQL(1)
	require.Equal(t, `((t = $1 or u = $2) and u = $3)`, sql)
	require.Equal(t, []any{"a", "b", "c"}, args)
	require.True(t, filter.And(filter.Expr{}).IsZero())
}

// allowed are all tokens that a condition over the test's columns may have.
var allowed = regexp.MustCompile(`^(?:` +
	`t|u|n|at|and|or|is|not|null|distinct|from|like|in|true|lower|translate|collate|"C"|cast|as|numeric` +
	`|\$[1-9][0-9]*|[(),]|=|<|<=|>|>=)$`)

var token = regexp.MustCompile(`\s+|[A-Za-z_]+|"[^"]*"|\$[0-9]+|<=|>=|.`)

// requireOnlyParameters scans the SQL: no literal, no comment, nothing but what
// the compiler writes, and exactly as many parameters as arguments, in order.
func requireOnlyParameters(tb testing.TB, e filter.Expr) {
	tb.Helper()
	sql, args := e.SQL(1)
	last := 0
	for _, tok := range token.FindAllString(sql, -1) {
		if strings.TrimSpace(tok) == "" {
			continue
		}
		require.Regexp(tb, allowed, tok, sql)
		if tok[0] == '$' {
			n, err := strconv.Atoi(tok[1:])
			require.NoError(tb, err)
			require.LessOrEqual(tb, n, last+1, sql) // a column may be written twice
			last = max(last, n)
		}
	}
	require.Len(tb, args, last, sql)
}

// The text of the SQL depends on the shape of the filter only: hostile values
// give the very text that a harmless one gives.
func TestValuesNeverReachTheText(t *testing.T) {
	t.Parallel()
	hostile := append(testvec.JSON[[]string](t, "blns/blns.json"),
		"'; drop table ca_signer; --", "' or '1'='1", "$1", "$999", `\`, `\'`, "%", "{a,b}", "[i]", "null", "a)b", "/*", "*/", "\x01", "\u2028")
	tried := 0
	for _, op := range []string{"=", "!=", "^=", "$=", "*=", ">", "<=", " like ", " in ", " !in "} {
		for _, s := range hostile {
			if strings.ContainsRune(s, 0) || len(s) > 2000 {
				continue
			}
			for _, quote := range []string{"'", `"`, "`"} {
				if strings.Contains(s, quote) {
					continue
				}
				harmless, text := quote+"x"+quote, quote+s+quote
				if strings.Contains(op, "in") {
					harmless, text = "{"+harmless+"}", "{"+text+"}"
				}
				want, _ := parse(t, "name"+op+harmless).SQL(1)
				e := parse(t, "name"+op+text)
				sql, args := e.SQL(1)
				require.Equal(t, want, sql)
				require.Len(t, args, 1)
				requireOnlyParameters(t, e)
				tried++
			}
		}
	}
	require.Greater(t, tried, 10000)
}
