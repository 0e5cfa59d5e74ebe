package ca_test

import (
	"crypto/rand"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
)

// Somebody holds the row of a signer: its certificates wait for that and nobody
// else's do, and they are issued when it is over.
func TestAHeldSignerDelaysNoOther(t *testing.T) {
	t.Parallel()
	b, a := bundle(t)
	ctx := t.Context()
	held := create(t, a)
	_, err := a.CreateSigner(ctx, beta, ca.CreateSigner{})
	require.NoError(t, err)
	tx, err := b.db.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = tx.Exec(ctx, `select from ca_signer where id = $1 for update`, held.ID)
	require.NoError(t, err)

	var waiting sync.WaitGroup
	var issued atomic.Int32
	for range 4 {
		r := order(t)
		waiting.Go(func() {
			if _, err := a.IssueDevice(ctx, alpha, r); err == nil {
				issued.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool {
		return b.count(t, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) == 4
	}, 10*time.Second, 5*time.Millisecond)
	for range 4 {
		_, err := a.IssueDevice(ctx, beta, order(t))
		require.NoError(t, err)
	}
	require.Zero(t, issued.Load())
	require.NoError(t, tx.Rollback(ctx))
	waiting.Wait()
	require.EqualValues(t, 4, issued.Load())
}

// A row that the database refuses takes no other with it.
func TestARefusedIntentFailsAlone(t *testing.T) {
	t.Parallel()
	b, _ := bundle(t)
	var serials atomic.Int32
	a := b.authority(t, func(c *ca.Config) {
		c.Random = readerFunc(func(p []byte) (int, error) {
			if len(p) == 16 && serials.Add(1)%2 == 0 { // every second serial; ids take 10 bytes
				for i := range p {
					p[i] = 7
				}
				return len(p), nil
			}
			return rand.Read(p)
		})
	})
	create(t, a)
	before := b.count(t, `select count(*) from ca_certificate`)
	var all sync.WaitGroup
	var good, bad atomic.Int32
	for range 12 {
		r := order(t)
		all.Go(func() {
			if _, err := a.IssueDevice(t.Context(), alpha, r); err != nil {
				bad.Add(1)
			} else {
				good.Add(1)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 12, good.Load()+bad.Load())
	require.Positive(t, bad.Load())
	require.Positive(t, good.Load())
	require.EqualValues(t, good.Load(), b.count(t, `select count(*) from ca_certificate where status = 'ISSUED'`)-before)
	require.EqualValues(t, before+int(good.Load()), b.count(t, `select count(*) from ca_certificate`))
	require.EqualValues(t, good.Load(), b.count(t, `select count(*) from audit_event where action = 'certificate.issue' and outcome = 'ok'`))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
