package pgcluster_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/pgcluster"
)

// BenchmarkFirstStart is what the very first start of signet pays, durable and
// in the temporary directory, stopping not included.
func BenchmarkFirstStart(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		b.StartTimer()
		cl, err := pgcluster.Start(b.Context(), pgcluster.Config{Dir: dir, Durable: true})
		b.StopTimer()
		require.NoError(b, err)
		stop(b, cl)
		require.NoError(b, os.RemoveAll(dir))
		b.StartTimer()
	}
}

// BenchmarkSecondStart finds a cluster that was stopped in order.
func BenchmarkSecondStart(b *testing.B) {
	c := pgcluster.Config{Dir: b.TempDir(), Durable: true}
	cl, err := pgcluster.Start(b.Context(), c)
	require.NoError(b, err)
	stop(b, cl)
	for b.Loop() {
		cl, err := pgcluster.Start(b.Context(), c)
		b.StopTimer()
		require.NoError(b, err)
		stop(b, cl)
		b.StartTimer()
	}
}
