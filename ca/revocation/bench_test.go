package revocation_test

import (
	"crypto"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
)

// Stored responses, as almost all requests find them.
func BenchmarkOCSPFromStore(b *testing.B) {
	w := newBench(b)
	ca := w.authority.add(1)
	p := w.publisher(b, nil)
	request := ask(b, ca, w.authority.leaf(ca), crypto.SHA1)
	_, err := p.OCSP(b.Context(), ca.issuer.KeyID(), request)
	require.NoError(b, err)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := p.OCSP(b.Context(), ca.issuer.KeyID(), request); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
}

// First requests: two statements, one signature by a key in software, linted.
func BenchmarkOCSPFirst(b *testing.B) {
	w := newBench(b)
	ca := w.authority.add(1)
	p := w.publisher(b, nil)
	requests := make([][]byte, b.N)
	for i := range requests {
		requests[i] = ask(b, ca, w.authority.leaf(ca), crypto.SHA1)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, r := range requests {
		_, err := p.OCSP(b.Context(), ca.issuer.KeyID(), r)
		require.NoError(b, err)
	}
}

func BenchmarkCRLFromMemory(b *testing.B) {
	w := newBench(b)
	ca := w.authority.add(1)
	p := w.publisher(b, nil)
	require.NoError(b, p.Round(b.Context()))
	b.ReportAllocs()
	for b.Loop() {
		_, err := p.CRL(b.Context(), ca.issuer.KeyID(), 0)
		require.NoError(b, err)
	}
}

// One revocation among 100 000: read the shard, encode, sign, lint, store.
func BenchmarkRebuild100k(b *testing.B) {
	for _, shards := range []int{1, 64} {
		b.Run(fmt.Sprintf("shards=%d", shards), func(b *testing.B) {
			w := newBench(b)
			ca := w.authority.add(shards)
			fill(b, w, ca, 100_000)
			p := w.publisher(b, nil)
			require.NoError(b, p.Round(b.Context()))
			ca.key.signatures.Store(0)
			bytes := 0
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				w.clock.advance(time.Second)
				one := newRecord(b, ca.issuer.KeyID())
				one.Shards, one.At, one.Since, one.NotAfter = shards, w.clock.now(), time.Time{}, w.clock.now().Add(time.Hour)
				require.NoError(b, record(b.Context(), w.db, one))
				b.StartTimer()
				require.NoError(b, p.Round(b.Context()))
				b.StopTimer()
				d, err := p.CRL(b.Context(), ca.issuer.KeyID(), revocation.Shard(one.Serial, shards))
				require.NoError(b, err)
				bytes = len(d.DER)
				b.StartTimer()
			}
			b.ReportMetric(float64(ca.key.signatures.Load())/float64(b.N), "signatures/op")
			b.ReportMetric(float64(bytes), "CRL-bytes")
		})
	}
}

// fill writes tombstones without going through RecordTx one by one.
func fill(tb testing.TB, w *bench, ca *testCA, n int) {
	tb.Helper()
	id := ca.issuer.KeyID()
	now := w.clock.now()
	if n > 10_000 { // statements have a time limit
		fill(tb, w, ca, n-10_000)
		n = 10_000
	}
	_, err := w.db.CopyFrom(tb.Context(), pgx.Identifier{"ca_revocation"},
		[]string{"tenant_id", "issuer_key_id", "serial", "shard", "cert_ref", "sha256", "reason", "revoked_at", "not_after", "actor"},
		pgx.CopyFromSlice(n, func(int) ([]any, error) {
			s := newSerial(tb)
			return []any{
				pgtest.Alpha.String(), id[:], s[:], int32(revocation.Shard(s, ca.issuer.Shards)), "00000000000000000000000000",
				make([]byte, 32), int16(1), now, now.Add(10000 * time.Hour), "test",
			}, nil
		}))
	require.NoError(tb, err)
}
