package filter_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/filter"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 10, 0, 0, 500_000, time.UTC)
	r := row{T: ptr("Müller_50%"), U: nil, N: ptr(int64(7)), At: &at}
	for text, want := range map[string]bool{
		"":                                      true,
		"name='Müller_50%'":                     true,
		"name='müller_50%'":                     false,
		"name='mÜLLER_50%'[i]":                  true,
		"name^=M":                               true,
		"name^=m":                               false,
		"name^='mü'[i]":                         true,
		"name$='_50%'":                          true,
		"name$='x50%'":                          false,
		"name*=50":                              true,
		"name*='%_'":                            false, // not wildcards here
		"name like 'M_ller%'":                   true,
		"name like 'M__ller%'":                  false,
		"name like 'MÜL%50_'[i]":                true,
		"name like %":                           true,
		`name like 'Müller\_%'`:                 false, // the backslash is no escape
		"name > Mz":                             true,  // by code points: ü comes after z
		"name < N":                              true,
		"name in {a, 'Müller_50%'}":             true,
		"name !in {a, 'Müller_50%'}":            false,
		"name !in {a, b}":                       true,
		"id=null":                               true,
		"id!=null":                              false,
		"name!=null":                            true,
		"id=a":                                  false,
		"id!=a":                                 true, // the negation of =
		"id !in {a}":                            true,
		"id in {a}":                             false,
		"id<a":                                  false,
		"id>=a":                                 false,
		"id^=''":                                false,
		"id like %":                             false,
		"generation=7":                          true,
		"generation=7.00":                       true,
		"generation>6.5":                        true,
		"generation>10":                         false, // not by characters
		"generation in {1,7}":                   true,
		"generation!=7":                         false,
		"createdAt=null":                        false,
		"createdAt>2026-11-22":                  true,
		"createdAt<'2026-11-22T12:00:00+03:00'": false,
		"createdAt='2026-11-22T13:00:00.0005+03:00'": true,
		"name=x and id=null or generation=7":         true,
		"name=x and (id=null or generation=7)":       false,
	} {
		require.Equal(t, want, parse(t, text).Match(r.value), text)
	}
}

// [i] finds whatever differs in case only, whichever side has which case.
func TestFolding(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]string{
		{"SIGNER", "signer"}, {"Überweisung", "ÜBERWEISUNG"}, {"ÇAĞRI", "çağri"}, {"Σίσυφος", "ΣΊΣΥΦΟΣ"}, {"ЖУК", "жук"}, {"ẞ", "ß"}, {"Ǆ", "ǆ"}, {"µ", "Μ"}, {"\U00010400", "\U00010428"},
	} {
		for _, p := range [][2]string{pair, {pair[1], pair[0]}} {
			for _, text := range []string{"name='%s'[i]", "name^='%s'[i]", "name*='%s'[i]", "name like '%s'[i]", "name in {x,'%s'}[i]"} {
				text = strings.ReplaceAll(text, "%s", p[1])
				require.True(t, parse(t, text).Match(named(""+p[0]).value), "%s: %s", text, p[0])
				require.False(t, parse(t, strings.TrimSuffix(text, "[i]")).Match(named(p[0]).value), "%s: %s", text, p[0])
			}
		}
	}
	for _, pair := range [][2]string{{"a", "b"}, {"é", "e"}, {"ss", "ß"}, {"\u212a", "k"}, {"i", "İ"}, {"ı", "I"}} {
		require.False(t, parse(t, "name='"+pair[0]+"'[i]").Match(named(pair[1]).value), pair)
	}
}

// A pattern full of wildcards costs the product of the lengths at most.
func TestLikeDoesNotExplode(t *testing.T) {
	t.Parallel()
	pattern := strings.Repeat("%a", 2000) + "b"
	start := time.Now()
	require.False(t, parse(t, "name like '"+pattern+"'").Match(named(strings.Repeat("a", 4000)).value))
	require.Less(t, time.Since(start), 2*time.Second)
}

func TestInstantIsCutToWhatTheDatabaseKeeps(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 999, time.UTC)
	require.Equal(t, filter.Instant(at.Truncate(time.Microsecond)), filter.Instant(at))
}
