package envelope_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/tenant"
)

var place = envelope.Field{Tenant: pgtest.Alpha, Table: "app", Column: "secret", Row: "mobile/1"}

func TestSealedOpensInItsPlaceOnly(t *testing.T) {
	t.Parallel()
	ring := envelope.New(pgtest.New(t), randomKEK(t), envelope.Options{})
	content := []byte("server private key")
	blob, err := ring.Seal(t.Context(), place, content)
	require.NoError(t, err)
	require.NotContains(t, string(blob), string(content))
	got, err := ring.Open(t.Context(), place, blob)
	require.NoError(t, err)
	require.Equal(t, content, got.Reveal())

	// The twin's DEK exists: what refuses below is the binding, not a missing key.
	_, err = ring.Seal(t.Context(), with(func(f *envelope.Field) { f.Tenant = pgtest.Beta }), content)
	require.NoError(t, err)
	for name, other := range map[string]envelope.Field{
		"row":    with(func(f *envelope.Field) { f.Row = "mobile/2" }),
		"column": with(func(f *envelope.Field) { f.Column = "key" }),
		"table":  with(func(f *envelope.Field) { f.Table = "registration" }),
		"tenant": with(func(f *envelope.Field) { f.Tenant = pgtest.Beta }),
		// The same letters under other borders.
		"shifted": with(func(f *envelope.Field) { f.Table, f.Column = "apps", "ecret" }),
	} {
		_, err := ring.Open(t.Context(), other, blob)
		require.ErrorIs(t, err, envelope.ErrCorrupt, name)
	}
}

func with(change func(*envelope.Field)) envelope.Field {
	f := place
	change(&f)
	return f
}

func TestEveryFlippedBitIsRefused(t *testing.T) {
	t.Parallel()
	ring := envelope.New(pgtest.New(t), randomKEK(t), envelope.Options{})
	blob, err := ring.Seal(t.Context(), place, []byte("x"))
	require.NoError(t, err)
	for bit := range len(blob) * 8 {
		bad := bytes.Clone(blob)
		bad[bit/8] ^= 1 << (bit % 8)
		_, err := ring.Open(t.Context(), place, bad)
		require.ErrorIs(t, err, envelope.ErrCorrupt, "bit %d", bit)
	}
	for n := range blob {
		_, err := ring.Open(t.Context(), place, blob[:n])
		require.ErrorIs(t, err, envelope.ErrCorrupt, "cut to %d", n)
	}
	_, err = ring.Open(t.Context(), place, append(bytes.Clone(blob), 0))
	require.ErrorIs(t, err, envelope.ErrCorrupt)
}

func TestEqualPlaintextsDiffer(t *testing.T) {
	t.Parallel()
	ring := envelope.New(pgtest.New(t), randomKEK(t), envelope.Options{})
	seen := map[string]bool{}
	for range 100 {
		blob, err := ring.Seal(t.Context(), place, []byte("same"))
		require.NoError(t, err)
		seen[string(blob)] = true
	}
	require.Len(t, seen, 100)
}

func TestEmptyPlaintext(t *testing.T) {
	t.Parallel()
	ring := envelope.New(pgtest.New(t), randomKEK(t), envelope.Options{})
	blob, err := ring.Seal(t.Context(), place, nil)
	require.NoError(t, err)
	got, err := ring.Open(t.Context(), place, blob)
	require.NoError(t, err)
	require.Zero(t, got.Len())
}

func TestIncompletePlaceIsRefused(t *testing.T) {
	t.Parallel()
	ring := envelope.New(pgtest.New(t), randomKEK(t), envelope.Options{})
	for _, f := range []envelope.Field{
		{},
		with(func(f *envelope.Field) { f.Tenant = tenant.ID{} }),
		with(func(f *envelope.Field) { f.Table = "" }),
		with(func(f *envelope.Field) { f.Column = "" }),
		with(func(f *envelope.Field) { f.Row = "" }),
		with(func(f *envelope.Field) { f.Tenant = tenant.MustParse("nobody-knows") }), // not in table tenant
	} {
		_, err := ring.Seal(t.Context(), f, []byte("x"))
		require.ErrorIs(t, err, envelope.ErrField, "%+v", f)
	}
	_, err := ring.Open(t.Context(), envelope.Field{}, nil)
	require.ErrorIs(t, err, envelope.ErrField)
}

// Two processes meet a tenant that has no DEK: one is stored, both use it.
func TestTwoNodesMakeOneFirstDEK(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	kek := randomKEK(t)
	const nodes = 8
	blobs := make([][]byte, nodes)
	rings := make([]*envelope.Keyring, nodes)
	kek.seals = new(sync.WaitGroup)
	kek.seals.Add(nodes) // all have found no DEK before one is stored
	var wg sync.WaitGroup
	errs := make([]error, nodes)
	for i := range nodes {
		rings[i] = envelope.New(pool, kek, envelope.Options{})
		wg.Go(func() {
			blobs[i], errs[i] = rings[i].Seal(t.Context(), place, []byte("agreed"))
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	require.Equal(t, 1, countDEKs(t, pool))
	for _, ring := range rings {
		for _, blob := range blobs {
			got, err := ring.Open(t.Context(), place, blob)
			require.NoError(t, err)
			require.Equal(t, "agreed", string(got.Reveal()))
		}
	}
}

func countDEKs(t *testing.T, pool *pgxpool.Pool) (n int) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), `select count(*) from dek`).Scan(&n))
	return n
}

func TestDEKIsUnwrappedOnce(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	kek := randomKEK(t)
	blob, err := envelope.New(pool, kek, envelope.Options{}).Seal(t.Context(), place, []byte("x"))
	require.NoError(t, err)

	kek.opens.Store(0)
	kek.gate = make(chan struct{})
	registry := prometheus.NewPedanticRegistry()
	ring := envelope.New(pool, kek, envelope.Options{Metrics: registry})
	// The caller who began it gives up, and fails alone.
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var first error
	wg.Go(func() { _, first = ring.Open(ctx, place, blob) })
	require.Eventually(t, func() bool { return kek.opens.Load() == 1 }, 10*time.Second, time.Millisecond)
	errs := make([]error, 64)
	for i := range errs {
		wg.Go(func() {
			if i%2 == 0 {
				_, errs[i] = ring.Open(t.Context(), place, blob)
			} else {
				_, errs[i] = ring.Seal(t.Context(), place, []byte("y"))
			}
		})
	}
	time.Sleep(20 * time.Millisecond) // the others have joined by now
	cancel()
	time.Sleep(20 * time.Millisecond)
	close(kek.gate)
	wg.Wait()
	require.ErrorIs(t, first, fault.ErrUnavailable)
	require.ErrorIs(t, first, context.Canceled)
	require.NoError(t, errors.Join(errs...))
	require.EqualValues(t, 1, kek.opens.Load())
	n, err := testutil.GatherAndCount(registry, "signet_envelope_unwraps_total")
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

// The HSM is out: who is cached goes on, who is not hears "unavailable", and all
// is well again when it is back.
func TestHSMOutage(t *testing.T) {
	t.Parallel()
	for name, outage := range map[string]error{
		"typed":   fmt.Errorf("hsm: %w", fault.ErrUnavailable),
		"foreign": errors.New("CKR_DEVICE_ERROR"),
		"late":    context.DeadlineExceeded,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t)
			kek := randomKEK(t)
			ring := envelope.New(pool, kek, envelope.Options{})
			blob, err := ring.Seal(t.Context(), place, []byte("x"))
			require.NoError(t, err)
			kek.fail(outage)

			_, err = ring.Open(t.Context(), place, blob)
			require.NoError(t, err)
			_, err = ring.Seal(t.Context(), place, []byte("y"))
			require.NoError(t, err)

			beta := with(func(f *envelope.Field) { f.Tenant = pgtest.Beta })
			_, err = ring.Seal(t.Context(), beta, []byte("x"))
			require.ErrorIs(t, err, fault.ErrUnavailable)
			require.Equal(t, 1, countDEKs(t, pool))
			_, err = envelope.New(pool, kek, envelope.Options{}).Open(t.Context(), place, blob)
			require.ErrorIs(t, err, fault.ErrUnavailable)
			require.NotErrorIs(t, err, envelope.ErrCorrupt)

			kek.heal()
			_, err = ring.Seal(t.Context(), beta, []byte("x"))
			require.NoError(t, err)
		})
	}
}

func TestDatabaseOutage(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	ring := envelope.New(pool, randomKEK(t), envelope.Options{})
	blob, err := ring.Seal(t.Context(), place, []byte("x"))
	require.NoError(t, err)
	pool.Close()
	_, err = ring.Open(t.Context(), place, blob)
	require.NoError(t, err)
	_, err = ring.Seal(t.Context(), with(func(f *envelope.Field) { f.Tenant = pgtest.Beta }), []byte("x"))
	require.ErrorIs(t, err, fault.ErrUnavailable)
}

// Rows of table dek are bound to their place as well.
func TestSwappedDEKRowsAreRefused(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	kek := randomKEK(t)
	ring := envelope.New(pool, kek, envelope.Options{})
	beta := with(func(f *envelope.Field) { f.Tenant = pgtest.Beta })
	blob, err := ring.Seal(t.Context(), place, []byte("x"))
	require.NoError(t, err)
	_, err = ring.Seal(t.Context(), beta, []byte("x"))
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `update dek set sealed = (select sealed from dek where tenant_id = 'beta') where tenant_id = 'alpha'`)
	require.NoError(t, err)

	late := envelope.New(pool, kek, envelope.Options{})
	_, err = late.Open(t.Context(), place, blob)
	require.ErrorIs(t, err, envelope.ErrCorrupt)
	require.Equal(t, "ENVELOPE_CORRUPT", fault.Of(err).Reason)
	_, err = late.Seal(t.Context(), place, []byte("y"))
	require.ErrorIs(t, err, envelope.ErrCorrupt)
	_, err = late.Seal(t.Context(), beta, []byte("y"))
	require.NoError(t, err)

	_, err = pool.Exec(t.Context(), `delete from dek where tenant_id = 'alpha'`)
	require.NoError(t, err)
	_, err = late.Open(t.Context(), place, blob)
	require.ErrorIs(t, err, envelope.ErrCorrupt)
}

func TestAnotherKEKIsNamed(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	kek := randomKEK(t)
	blob, err := envelope.New(pool, kek, envelope.Options{KEKName: "old"}).Seal(t.Context(), place, []byte("x"))
	require.NoError(t, err)
	_, err = envelope.New(pool, kek, envelope.Options{KEKName: "new"}).Open(t.Context(), place, blob)
	require.ErrorIs(t, err, envelope.ErrKEK)
	require.ErrorContains(t, err, `"old"`)
}

func FuzzOpen(f *testing.F) {
	ring := envelope.New(pgtest.New(f), randomKEK(f), envelope.Options{})
	blob, err := ring.Seal(f.Context(), place, []byte("secret"))
	require.NoError(f, err)
	f.Add(blob)
	f.Add(blob[:5])
	f.Add([]byte{1})
	f.Add(append([]byte{1, 0xff, 0xff, 0xff, 0xff}, make([]byte, 40)...))
	f.Add(append([]byte{2}, blob[1:]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ring.Open(t.Context(), place, b)
		if bytes.Equal(b, blob) {
			require.NoError(t, err)
			require.Equal(t, "secret", string(got.Reveal()))
			return
		}
		require.ErrorIs(t, err, envelope.ErrCorrupt)
	})
}

func BenchmarkSeal(b *testing.B) {
	ring := envelope.New(pgtest.New(b), randomKEK(b), envelope.Options{})
	content := make([]byte, 32)
	_, err := ring.Seal(b.Context(), place, content)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ring.Seal(b.Context(), place, content); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	ring := envelope.New(pgtest.New(b), randomKEK(b), envelope.Options{})
	blob, err := ring.Seal(b.Context(), place, make([]byte, 32))
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ring.Open(b.Context(), place, blob); err != nil {
			b.Fatal(err)
		}
	}
}
