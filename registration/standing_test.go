package registration

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/signature"
)

// Random histories against the rule told in words: never more than max wrong
// signatures in a row, whatever the factors; the counter never goes down; wrong
// signatures with a PIN or a finger are cleared by one of those only.
func TestStandingByRandomHistories(t *testing.T) {
	t.Parallel()
	factors := []signature.Factor{
		signature.Possession, signature.Knowledge, signature.PossessionKnowledge, signature.PossessionBiometry,
	}
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		s := standing{state: StateActive, max: 1 + rnd.IntN(6)}
		inRow, strong := 0, 0 // wrong ones in a row; wrong ones with more than possession
		for range 40 {
			f, before := factors[rnd.IntN(len(factors))], s
			if rnd.IntN(3) == 0 {
				m := signature.Match{Offset: rnd.IntN(lookAhead), Factors: f}
				m.Next[0] = byte(rnd.Uint32())
				s = s.pass(m)
				require.Equal(t, before.counter+int64(m.Offset)+1, s.counter)
				require.Equal(t, m.Next, s.ctr)
				inRow = 0
				if f != signature.Possession {
					strong = 0
				}
			} else {
				s = s.fail(f)
				require.Equal(t, before.ctr, s.ctr)
				require.Equal(t, before.counter, s.counter)
				inRow++
				if f != signature.Possession {
					strong++
				}
			}
			require.Equal(t, strong, s.failed-s.failedPossession)
			require.GreaterOrEqual(t, s.failedPossession, 0)
			require.GreaterOrEqual(t, s.failed, inRow)
			require.LessOrEqual(t, s.failed, s.max)
			require.Equal(t, s.max-s.failed, s.remaining())
			require.Equal(t, s.spent(), s.state == StateBlocked)
			if s.state == StateBlocked {
				require.Equal(t, BlockedMaxFailedAttempts, *s.blocked)
				break
			}
		}
	}
}
