//go:build !race

package signature

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The race detector makes sync.Pool drop items at random, hence the build tag.
func TestTheHotPathDoesNotAllocate(t *testing.T) {
	c := newBenchCase(t)
	text := c.header.String()
	token := TokenHeader{Timestamp: 1700000000000, Version: V33}
	wrong := c.header
	wrong.Signature.raw[0] ^= 1
	for name, f := range map[string]func(){
		"parse header": func() { _, _ = ParseHeader(text) },
		"verify":       func() { c.keys.Verify(&c.header, c.req, c.ctr, DefaultLookAhead) },
		"verify wrong": func() { c.keys.Verify(&wrong, c.req, c.ctr, DefaultLookAhead) },
		"sign":         func() { c.keys.Sign(V31, PossessionKnowledge, c.req, c.ctr) },
		"token":        func() { token.Verify(tokenSecret[:16]) },
	} {
		require.LessOrEqual(t, testing.AllocsPerRun(200, f), 0.0, name)
	}
}

var tokenSecret = make([]byte, 16)
