package signature

import "crypto/sha256"

// Counter is CTR_DATA, the hash chain that makes every signature fresh. The
// server draws the first one at random; both sides step it with Next.
type Counter [16]byte

// DefaultLookAhead is how many counters, from the expected one on, a server
// tries before it calls a signature wrong.
const DefaultLookAhead = 20

// Next is the counter after c.
func (c Counter) Next() Counter {
	sum := sha256.Sum256(c[:])
	return fold(&sum)
}
