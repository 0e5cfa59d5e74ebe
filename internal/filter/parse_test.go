package filter_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/filter"
)

// The examples of the seed, each with its list.
func TestExamplesOfTheSeed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fields filter.Fields
		text   string
	}{
		{signers, "name^=SignerA-"},
		{signers, "name ^= SignerA- [i]"},
		{signers, "name^=SignerA-[i]"},
		{signers, `name=""`},
		{signers, `(name="test t" && id=a1) or (id*=b and name*='kate r')`},
		{certificates, "user=cb9f4b9c-5ebd-44e0-a9c6-806ef49483c1"},
		{certificates, "profile in { AST_DEVICE, SIGNATURE }"},
		{certificates, "profile !in { AST_DEVICE, SIGNATURE }"},
		{properties, "name^=EntityA-"},
		{properties, "name=null"},
		{properties, `name like "_ntony %"`},
		{properties, "name > mike[i]"},
		{properties, "id >= 5"},
		{properties, "name in {Mike, Rafael}"},
		{properties, "name !in {'addison monroe', 'briley brinkley'} [i]"},
		{properties, "id <= 345.456"},
		{properties, "id in { 4, 5, 3.2 }"},
		{clients, "appVersion=1.0 and lockState in {LOCKED,UNLOCKED}"},
	} {
		_, err := filter.Parse(c.text, c.fields)
		require.NoError(t, err, c.text)
	}
}

// One meaning per spelling: filters of one line are one condition.
func TestSpellings(t *testing.T) {
	t.Parallel()
	for _, same := range [][]string{
		{"", " ", "\t\r\n"},
		{"name=a", "name = a", " name\t=\na ", "name='a'", `name="a"`, "name=`a`", "(name=a)", "((name=a))", "name=a[]", "name=a []"},
		{"name!=a", "name<>a", "name <> 'a'"},
		{"name=a[i]", "name=A[I]", "name='a' [ii]", "name=A[iI]"},
		{"name=null", "name=NULL", "name = null", "name=null[i]"},
		{"name='null'", "name=`null`"},
		{"name in {'null'}", "name in{ `null` }"},
		{"name=a and id=b", "name=a AND id=b", "name=a&&id=b", "name='a'and id='b'", "(name=a)and(id=b)", "name=a[]and id=b"},
		{"name=a or id=b", "name=a OR id=b", "name=a||id=b", "(name=a)OR(id=b)"},
		{"name=a or id=b and id=c", "name=a or (id=b and id=c)"},
		{"name like %a", "name like'%a'", "name like%a"},
		{"name in {a,b}", "name in{a , b}", "name in { a, 'b' }"},
		{"name!in{a}", "name !in {a}"},
		{"createdAt>=2026-11-22", "createdAt >= '2026-11-22'", "createdAt >= '2026-11-22T00:00:00Z'", "createdAt>='2026-11-22T01:30:00.000+01:30'"},
		{"generation=1", "generation='1'", "generation = 1 [i]"},
	} {
		want, wantArgs := parse(t, same[0]).SQL(1)
		for _, text := range same[1:] {
			sql, args := parse(t, text).SQL(1)
			require.Equal(t, want, sql, text)
			require.Equal(t, wantArgs, args, text)
		}
	}
	a, _ := parse(t, "name=a or id=b and id=c").SQL(1)
	b, _ := parse(t, "(name=a or id=b) and id=c").SQL(1)
	require.NotEqual(t, a, b, "brackets change the priority")
}

func TestErrorsPointAtTheColumn(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("(", 33) + "name=a" + strings.Repeat(")", 33)
	many := "name in {a" + strings.Repeat(",a", 200) + "}"
	for _, c := range []struct {
		text   string
		column int
		hint   string
	}{
		{"frob=1", 1, "there is no property frob; expected one of createdAt, generation, id, name, state, updatedAt"},
		{"name=a and  Name=b", 13, "there is no property Name"},
		{"name=a and " + strings.Repeat("x", 100) + "=1", 12, "there is no property " + strings.Repeat("x", 32) + "...;"},
		{"name", 5, "expected an operator: = != <> ^= $= *= > >= < <= like in !in"},
		{"name ~ x", 6, "expected an operator"},
		{"name LIKE x", 6, "expected an operator"},
		{"name !inside {a}", 6, "expected an operator"},
		{"name likes a", 6, "expected an operator"},
		{"name=", 6, "expected a value"},
		{"name= ", 7, "expected a value"},
		{"name==a", 6, "expected a value, in quotes because of its first character"},
		{"name=ä", 6, "expected a value, in quotes"},
		{"name=aä", 7, "expected a value in quotes"},
		{"name=a/b", 7, "expected a value in quotes"},
		{"name='ä' and id=b/c", 18, "expected a value in quotes"}, // characters, not bytes
		{"name='a", 6, "expected a closing '"},
		{"name=\"a'", 6, `expected a closing "`},
		{"name=`a'", 6, "expected a closing `"},
		{"name='a''b'", 9, "expected and, or, or the end"},
		{"name=a b", 8, "expected and, or, or the end"},
		{"name=a)", 7, "expected and, or, or the end"},
		{"name=a and", 11, "expected a property name or ("},
		{"name=a or or id=b", 11, "there is no property or"},
		{"name=a || || id=b", 11, "expected a property name or ("},
		{"name=a & id=b", 8, "expected and, or, or the end"},
		{"name=a Or id=b", 8, "expected and, or, or the end"},
		{"not name=a", 1, "there is no property not"},
		{"(name=a", 8, "expected ) or a logical operator"},
		{"()", 2, "expected a property name or ("},
		{"=a", 1, "expected a property name or ("},
		{"name in a", 9, "expected { and a list of values"},
		{"name in {}", 10, "expected a value"},
		{"name in {a,}", 12, "expected a value"},
		{"name in {a b}", 12, "expected , or }"},
		{"name in {a", 11, "expected , or }"},
		{"name in {a, null}", 13, "null can only be compared by =, != and <>"},
		{"name > null", 8, "null can only be compared"},
		{"name like NULL", 11, "null can only be compared"},
		{"name=a[x]", 8, "expected i or ]"},
		{"name=a[ i ]", 8, "expected i or ]"},
		{"name=a[i", 9, "expected i or ]"},
		{"name=a[i][i]", 10, "expected and, or, or the end"},
		{"generation=x", 12, "expected a number"},
		{"generation=''", 12, "expected a number"},
		{"generation=1.", 12, "expected a number"},
		{"generation='.5'", 12, "expected a number"},
		{"generation='1e3'", 12, "expected a number"},
		{"generation='1/2'", 12, "expected a number"},
		{"generation='+1'", 12, "expected a number"},
		{"generation='0x1'", 12, "expected a number"},
		{"generation='1_0'", 12, "expected a number"},
		{"generation='١'", 12, "expected a number"},
		{"generation=--1", 12, "expected a number"},
		{"generation in {1, b}", 19, "expected a number"},
		{"generation^=1", 11, "generation is not text; expected one of = != <> > >= < <= in !in"},
		{"createdAt like 2026", 11, "createdAt is not text"},
		{"createdAt>2026", 11, "expected a time like"},
		{"createdAt>2026-13-01", 11, "expected a time like"},
		{"createdAt>'2026-11-22T25:00:00Z'", 11, "expected a time like"},
		{"createdAt>'2026-11-22 00:00:00Z'", 11, "expected a time like"},
		{"createdAt>'2026-11-22T00:00:00'", 11, "expected a time like"},
		{"createdAt>'2026-11-22T00:00:00.Z'", 11, "expected a time like"},
		{"createdAt>'2026-11-22T00:00:00,5Z'", 11, "expected a time like"},
		{"createdAt>'2026-11-22T00:00:00.1234567Z'", 11, "expected a time like"},
		{"createdAt>'2026-11-22T00:00:00z'", 11, "expected a time like"},
		{"createdAt>2026-11-22T00:00:00Z", 24, "expected a value in quotes"},
		{"name='a\x00b'", 8, "expected no NUL character"},
		{"name=a\x00", 7, "expected a value in quotes"},
		{"ä", 1, "expected a property name"},
		{"name='ä\xff'", 8, "expected UTF-8"},
		{"name='\ufffd\xff'", 8, "expected UTF-8"},
		{"id=a or name='" + letters(65) + "'[i]", 9, "[i] takes at most 64 different letters beyond a-z"},
		{deep, 33, "brackets must not be nested deeper than 32"},
		{many, 410, "a filter has at most 200 values"},
		{"name='" + strings.Repeat("ä", 4090) + "'", 4097, "expected the end: a filter has at most 4096 characters"},
	} {
		_, err := filter.Parse(c.text, signers)
		var typed *filter.Error
		require.ErrorAs(t, err, &typed, "%q", c.text)
		require.Equal(t, c.column, typed.Column, "%q: %v", c.text, err)
		require.Contains(t, typed.Hint, c.hint, "%q", c.text)
		property := strings.HasPrefix(c.hint, "there is no property")
		require.Equal(t, property, fault.Of(err).Reason == filter.ErrProperty.Reason, "%q", c.text)
		require.Equal(t, fault.Invalid, fault.KindOf(err))
		require.Equal(t, []fault.Violation{{Field: "filter", Hint: err.Error()[strings.Index(err.Error(), "column"):]}}, fault.Of(err).Violations)
	}
	for _, ok := range []string{
		"name='" + strings.Repeat("ä", 4089) + "'",
		strings.Repeat("(", 32) + "name=a" + strings.Repeat(")", 32),
		"name in {a" + strings.Repeat(",a", 199) + "}",
		strings.Repeat("(name=a)or", 150) + "(name=a)", // brackets side by side are not deep
		"name='" + letters(64) + "'[I]", "name='" + letters(65) + "'",
		"generation=-0.0", "generation=" + strings.Repeat("9", 4000),
	} {
		parse(t, ok)
	}
}

// letters returns n Cyrillic and Armenian letters, no two of them relatives.
func letters(n int) string {
	var b strings.Builder
	for c := 'а'; c <= 'я'; c++ {
		b.WriteRune(c)
	}
	for c := 'ա'; c <= 'ֆ'; c++ {
		b.WriteRune(c)
	}
	return string([]rune(b.String())[:n])
}

// What needs quotes differs from list to list.
func TestBareValuesPerList(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fields filter.Fields
		name   string
		refuse string
	}{
		"signers": {signers, "name", "+:/@"}, "certificates": {certificates, "user", "+:/@"},
		"clients": {clients, "appName", "%+:/@"}, "properties": {properties, "value", "+:/@"},
	} {
		for _, ch := range "azAZ09-_.%+:/@" {
			_, err := filter.Parse(c.name+"=x"+string(ch), c.fields)
			if strings.ContainsRune(c.refuse, ch) {
				require.ErrorContains(t, err, "in quotes", "%s: %c", name, ch)
			} else {
				require.NoError(t, err, "%s: %c", name, ch)
			}
			_, err = filter.Parse(c.name+"='x"+string(ch)+"'", c.fields)
			require.NoError(t, err)
		}
	}
}

func TestErrorsKeepValues(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"name='hunter2' x", "generation=hunter2", "name='hunter2", "name=hunter2/", "createdAt='hunter2'", "name in {hunter2 x}", "name > hunter2 null"} {
		_, err := filter.Parse(text, signers)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "name=a", `(name="test t" && id=a1) or (id*=b and name*='kate r')`, "name !in {'a', `b`} [i]", "name like '_%\\' [I]", "generation in {1, -2.5}",
		"createdAt >= '2026-11-22T01:30:00.000001+01:30'", "name=null", "((((", "name in {", "name='", "\xff", "name='Ünï'[i] || id <> NULL",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, fields := range []filter.Fields{signers, certificates, clients, properties} {
			e, err := filter.Parse(text, fields)
			if err != nil {
				var typed *filter.Error
				require.ErrorAs(t, err, &typed)
				require.GreaterOrEqual(t, typed.Column, 1)
				require.LessOrEqual(t, typed.Column, len([]rune(text))+1)
				require.NotEmpty(t, typed.Hint)
				require.Equal(t, fault.Invalid, fault.KindOf(err))
				continue
			}
			requireOnlyParameters(t, e)
			require.Equal(t, strings.TrimSpace(text) == "", e.IsZero())
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for name, text := range map[string]string{
		"short":    "name^=SignerA-[i]",
		"brackets": strings.Repeat("(", 32) + "name=a" + strings.Repeat(")", 32),
		"list":     "name in {" + strings.Repeat("aaaaaaaaaaaaaaaa,", 199) + "a}",
		"folded":   "name='" + strings.Repeat("ß", 4080) + "'[i]",
		"junk":     strings.Repeat("(", 4096),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if e, err := filter.Parse(text, signers); err == nil {
					e.SQL(1)
				}
			}
		})
	}
}
