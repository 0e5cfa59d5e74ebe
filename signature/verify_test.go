package signature

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// steps returns the counter n steps on.
func steps(c Counter, n int) Counter {
	for range n {
		c = c.Next()
	}
	return c
}

func TestVerifyLooksAheadAndNeverBack(t *testing.T) {
	t.Parallel()
	c := newBenchCase(t)
	for _, v := range []Version{V30, V31, V32, V33} {
		for f := range Factor(8) {
			if !f.Valid() {
				continue
			}
			h := c.header
			h.Version, h.Factors = v, f
			h.Signature = c.keys.Sign(v, f, c.req, steps(c.ctr, 19))
			for _, tc := range []struct {
				from, lookAhead, offset int
				ok                      bool
			}{
				{0, 20, 19, true},
				{0, 19, 0, false},
				{19, 1, 0, true},
				{12, 20, 7, true},
				{20, 20, 0, false}, // one step too far: the signature is used
				{0, 0, 0, false},
			} {
				m, ok := c.keys.Verify(&h, c.req, steps(c.ctr, tc.from), tc.lookAhead)
				require.Equal(t, tc.ok, ok)
				if ok {
					require.Equal(t, Match{tc.offset, steps(c.ctr, 20), f}, m)
				} else {
					require.Equal(t, Match{}, m)
				}
			}
		}
	}
}

func TestVerifyRefusesOtherForms(t *testing.T) {
	t.Parallel()
	c := newBenchCase(t)
	decimal := c.keys.Sign(V30, PossessionKnowledge, c.req, c.ctr)
	one := c.keys.Sign(V31, Possession, c.req, c.ctr)
	three := c.keys.Sign(V31, PossessionKnowledgeBiometry, c.req, c.ctr)
	for name, change := range map[string]func(*Header){
		"decimal under 3.1": func(h *Header) { h.Signature = decimal },
		"Base64 under 3.0":  func(h *Header) { h.Version = V30 },
		"one component":     func(h *Header) { h.Signature = one },
		"three components":  func(h *Header) { h.Signature = three },
		"other type":        func(h *Header) { h.Factors = PossessionBiometry },
		"no signature":      func(h *Header) { h.Signature = Signature{} },
		"no version":        func(h *Header) { h.Version = 0 },
		"no version, no signature": func(h *Header) {
			h.Version, h.Signature = 0, Signature{}
		},
		"no factor": func(h *Header) { h.Factors = 0 },
		"no factor, no signature": func(h *Header) {
			h.Factors, h.Signature.components = 0, 0
		},
		"an invalid set": func(h *Header) { h.Factors = Knowledge | Biometry },
	} {
		h := c.header
		change(&h)
		_, ok := c.keys.Verify(&h, c.req, c.ctr, 20)
		require.False(t, ok, name)
	}
	_, ok := c.keys.Verify(&c.header, c.req, c.ctr, 1)
	require.True(t, ok)
}

// Base64 with bits after its end decodes to the right bytes, but the reference
// compares texts: one signature has one spelling.
func TestVerifyWantsTheCanonicalText(t *testing.T) {
	t.Parallel()
	c := newBenchCase(t)
	text := c.header.Signature.String()
	i := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", text[42])
	other := text[:42] + string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[i|1]) + "="
	require.NotEqual(t, text, other)
	a, err := ParseBase64(text)
	require.NoError(t, err)
	b, err := ParseBase64(other)
	require.NoError(t, err)
	require.Equal(t, a, b)
	c.header.Signature, err = ParseSignature(other)
	require.NoError(t, err)
	require.Equal(t, Unmatchable, c.header.Signature.Format())
	_, ok := c.keys.Verify(&c.header, c.req, c.ctr, 1)
	require.False(t, ok)
}

func TestVerifyOffline(t *testing.T) {
	t.Parallel()
	c := newBenchCase(t)
	c.req.Secret = []byte(OfflineSecret)
	for digits := MinDigits; digits <= MaxDigits; digits++ {
		knowledge, err := c.keys.SignOffline(digits, PossessionKnowledge, c.req, steps(c.ctr, 3))
		require.NoError(t, err)
		require.Len(t, knowledge.String(), 2*digits+1)
		biometry, err := c.keys.SignOffline(digits, PossessionBiometry, c.req, steps(c.ctr, 3))
		require.NoError(t, err)
		for _, allowed := range []bool{false, true} {
			m, ok := c.keys.VerifyOffline(&knowledge, c.req, c.ctr, 20, allowed)
			require.True(t, ok)
			require.Equal(t, Match{3, steps(c.ctr, 4), PossessionKnowledge}, m)
			m, ok = c.keys.VerifyOffline(&biometry, c.req, c.ctr, 20, allowed)
			require.Equal(t, allowed, ok)
			if ok {
				require.Equal(t, Match{3, steps(c.ctr, 4), PossessionBiometry}, m)
			}
		}
		one, err := c.keys.SignOffline(digits, Possession, c.req, c.ctr)
		require.NoError(t, err)
		_, ok := c.keys.VerifyOffline(&one, c.req, c.ctr, 20, true)
		require.False(t, ok, "one factor is never enough")
	}
	_, ok := c.keys.VerifyOffline(&c.header.Signature, c.req, c.ctr, 20, true)
	require.False(t, ok, "an online signature")
	for _, digits := range []int{3, 9, 0, -1} {
		_, err := c.keys.SignOffline(digits, Possession, c.req, c.ctr)
		require.ErrorIs(t, err, ErrDigits)
		_, err = ParseOfflineSignature("123", digits)
		require.ErrorIs(t, err, ErrDigits)
	}
}

func TestSignOfNothing(t *testing.T) {
	t.Parallel()
	c := newBenchCase(t)
	require.Equal(t, Signature{}, c.keys.Sign(0, Possession, c.req, c.ctr))
	require.Equal(t, Signature{}, c.keys.Sign(V31, 0, c.req, c.ctr))
	require.Empty(t, Signature{}.String())
	sig, err := c.keys.SignOffline(8, Knowledge|Biometry, c.req, c.ctr)
	require.NoError(t, err)
	require.Equal(t, Unmatchable, sig.Format())
}

func TestKeysServeManyGoroutines(t *testing.T) {
	t.Parallel()
	c := newBenchCase(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			req := c.req
			req.Body = make([]byte, 100*i) // scratch space of different sizes
			h := c.header
			for j := range 100 {
				h.Signature = c.keys.Sign(V31, h.Factors, req, steps(c.ctr, j%20))
				m, ok := c.keys.Verify(&h, req, c.ctr, DefaultLookAhead)
				if !ok || m.Offset != j%20 {
					t.Errorf("goroutine %d: %v %v", i, m, ok)
				}
			}
		})
	}
	wg.Wait()
}

func TestHugeBody(t *testing.T) {
	t.Parallel()
	c := newBenchCase(t)
	c.req.Body = make([]byte, 2*maxPooled)
	c.header.Signature = c.keys.Sign(V31, c.header.Factors, c.req, c.ctr)
	_, ok := c.keys.Verify(&c.header, c.req, c.ctr, 1)
	require.True(t, ok)
}

func TestKeysAreSmallAndPrintNothing(t *testing.T) {
	t.Parallel()
	require.LessOrEqual(t, unsafe.Sizeof(Keys{}), uintptr(500))
	k := DeriveKeys([16]byte{1})
	transport := k.TransportKey()
	e := newEnvelope(make([]byte, 32), nil, EnvelopeParams{Version: V33})
	e.keys = [48]byte(append(make([]byte, 32), transport[:]...))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, v := range []any{k, *k, &Responder{e}, Responder{e}, &Requester{e}, []any{Requester{e}}} {
			text := fmt.Sprintf(verb, v)
			require.NotContains(t, text, fmt.Sprintf("%x", transport[:]), verb)
			require.NotContains(t, text, fmt.Sprintf("%d", transport[0:3])[1:10], verb)
			require.Contains(t, text, "redacted", verb)
		}
	}
	text, err := json.Marshal(k)
	require.NoError(t, err)
	require.JSONEq(t, `"[redacted]"`, string(text))
	require.Contains(t, k.LogValue().String(), "redacted")
	k.Wipe()
	require.Equal(t, Keys{}, *k)
}

func TestMasterSecretWants32Bytes(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 31, 33} {
		require.Panics(t, func() { MasterSecret(make([]byte, n)) })
	}
}
