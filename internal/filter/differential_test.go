package filter_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/filter"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// A language's collation, in which 'a' < 'B' < 'c' and lower() knows Turkish,
// stands for whatever a server has as its own.
const foreign = `"tr-x-icu"`

func fill(tb testing.TB, db *pgxpool.Pool, rows []row) {
	tb.Helper()
	_, err := db.Exec(tb.Context(), `create table sample (i integer, t text collate `+foreign+`, u text collate `+foreign+`, n integer, at timestamptz)`)
	require.NoError(tb, err)
	_, err = db.CopyFrom(tb.Context(), pgx.Identifier{"sample"}, []string{"i", "t", "u", "n", "at"},
		pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
			return []any{i, rows[i].T, rows[i].U, rows[i].N, rows[i].At}, nil
		}))
	require.NoError(tb, err)
}

// requireSameVerdicts asks both sides which rows pass.
func requireSameVerdicts(tb testing.TB, db *pgxpool.Pool, rows []row, text string, e filter.Expr) (passed int) {
	tb.Helper()
	var want []int
	for i, r := range rows {
		if e.Match(r.value) {
			want = append(want, i)
		}
	}
	condition, args := e.SQL(2)
	requireOnlyParameters(tb, e)
	answer, err := db.Query(tb.Context(), `select i from sample where i >= $1 and `+condition+` order by i`,
		append([]any{pgx.QueryExecModeDescribeExec, 0}, args...)...)
	require.NoError(tb, err)
	got, err := pgx.CollectRows(answer, pgx.RowTo[int])
	require.NoError(tb, err, "%q: %s", text, condition)
	if !slices.Equal(want, got) {
		var b strings.Builder
		for i, r := range rows {
			if e.Match(r.value) != slices.Contains(got, i) {
				fmt.Fprintf(&b, "row %d: Match %v, t %s u %s n %v at %v\n", i, e.Match(r.value), show(r.T), show(r.U), r.N, r.At)
			}
		}
		require.Fail(tb, "verdicts differ", "%q\n%s %q\n%s", text, condition, args, b.String())
	}
	return len(got)
}

func show(s *string) string {
	if s == nil {
		return "null"
	}
	return strconv.QuoteToASCII(*s)
}

// Generated filters over generated rows: Match and PostgreSQL never differ.
func TestMatchAgreesWithPostgreSQL(t *testing.T) {
	t.Parallel()
	const filters = 3000
	g := generator{rand.New(rand.NewPCG(1, 2))}
	rows := make([]row, 300)
	for i := range rows {
		rows[i] = g.row()
	}
	db := pgtest.New(t)
	fill(t, db, rows)
	some, all := 0, 0
	for range filters {
		text := g.filter(rows, 3)
		e, err := filter.Parse(text, signers)
		require.NoError(t, err, "%q", text)
		switch requireSameVerdicts(t, db, rows, text, e) {
		case 0:
		case len(rows):
			all++
		default:
			some++
		}
	}
	require.Greater(t, some, filters/2, "the filters have to tell rows apart")
	require.Less(t, all, filters/3)
}

// Any text, any row: what is accepted gives the same verdict on both sides.
func FuzzMatchAgainstPostgreSQL(f *testing.F) {
	for _, s := range []string{
		"name=a", "name!=A[i]", "name like '%_\\'", "name^='%' or id$='_'", "name !in {'ß', Σ} [I]", "name > 'a' and id <= 'Z'[i]", "generation in {1,-2.5}",
		"createdAt >= '2025-11-22T01:30:00.000001+01:30'", "name=null || id<>null", "name='İ'[i]", "name*=`'\"`",
	} {
		f.Add(s, "a\\%_", "Σß\u212a", int64(1), int64(1763774400000001), uint8(0))
	}
	g := generator{rand.New(rand.NewPCG(3, 4))}
	rows := make([]row, 40)
	for i := range rows {
		rows[i] = g.row()
	}
	db := pgtest.New(f)
	fill(f, db, rows)
	f.Fuzz(func(t *testing.T, text, a, b string, n, us int64, nulls uint8) {
		e, err := filter.Parse(text, signers)
		if err != nil {
			// Not a filter: let the bytes choose one that is.
			g := generator{rand.New(rand.NewPCG(uint64(n), uint64(us)))}
			text = g.filter(append([]row{{T: &a, U: &b}}, rows...), int(nulls>>4))
			if e, err = filter.Parse(text, signers); err != nil {
				return // a value of the fuzzer's that no filter can have
			}
		}
		requireSameVerdicts(t, db, rows, text, e)
		requireSameVerdict(t, db, fuzzed(a, b, n, us, nulls), text, e)
	})
}

func fuzzed(a, b string, n, us int64, nulls uint8) row {
	at := time.UnixMicro(us % (200 * 365 * 86400e6)).UTC() // years 1770 to 2170
	clean := func(s string) *string {                      // of what no column can hold
		s = strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
		return &s
	}
	r := row{T: clean(a), U: clean(b), N: &n, At: &at}
	if nulls&1 != 0 {
		r.T = nil
	}
	if nulls&2 != 0 {
		r.U = nil
	}
	if nulls&4 != 0 {
		r.N = nil
	}
	if nulls&8 != 0 {
		r.At = nil
	}
	return r
}

// requireSameVerdict asks both sides about one row that is in no table.
func requireSameVerdict(tb testing.TB, db *pgxpool.Pool, r row, text string, e filter.Expr) {
	tb.Helper()
	condition, args := e.SQL(5)
	var got bool
	err := db.QueryRow(tb.Context(), `select `+condition+` from (select cast($1 as text) collate `+foreign+` as t,
  cast($2 as text) collate `+foreign+` as u, cast($3 as bigint) as n, cast($4 as timestamptz) as at) sample`,
		append([]any{pgx.QueryExecModeDescribeExec, r.T, r.U, r.N, r.At}, args...)...).Scan(nullIsFalse{&got})
	require.NoError(tb, err, "%q: %s", text, condition)
	require.Equal(tb, e.Match(r.value), got, "%q on %s %s %v %v: %s %q", text, show(r.T), show(r.U), r.N, r.At, condition, args)
}

// nullIsFalse reads a condition as WHERE does.
type nullIsFalse struct{ to *bool }

func (n nullIsFalse) Scan(v any) error {
	*n.to, _ = v.(bool)
	return nil
}
