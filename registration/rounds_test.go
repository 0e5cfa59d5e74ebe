package registration_test

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/registration"
)

// BenchmarkRounds is what `make bench` reads: the ways of BenchmarkVerifyAgainstNaive
// in turns, a line for each of them and each round, in Go's format, for
// SIGNET_BENCH_ROUNDS rounds of SIGNET_BENCH_SLICE each on tables of
// SIGNET_BENCH_SIZES registrations. Without these variables it does nothing.
//
// Every page is changed once before the first round, so that none is written whole
// in one.
func BenchmarkRounds(b *testing.B) {
	rounds, _ := strconv.Atoi(os.Getenv("SIGNET_BENCH_ROUNDS"))
	if rounds == 0 {
		b.Skip("started by benchmarks/run")
	}
	slice, err := time.ParseDuration(os.Getenv("SIGNET_BENCH_SLICE"))
	require.NoError(b, err)
	for i, size := range strings.Split(os.Getenv("SIGNET_BENCH_SIZES"), ",") {
		n, err := strconv.Atoi(size)
		require.NoError(b, err)
		callers := []int{1, 16, 256, 1024}
		if i > 0 { // how it grows with the table shows best at one load
			callers = []int{256}
		}
		b.Run(size, func(b *testing.B) { // stops the database before the next
			rows(b, n, callers, rounds, slice)
		})
	}
}

// rows has our way on one half of a table and the others on the other half: who
// finds a row that somebody else changed has to read it again.
func rows(b *testing.B, n int, callers []int, rounds int, slice time.Duration) {
	w := newDurableWorld(b)
	all := w.newCrowd(n)
	line(fmt.Sprintf("Verify/rows=%d/table", n), int64(n), w.size(n))
	ours, others := *all, *all
	ours.phones, others.phones = all.phones[:n/2], all.phones[n/2:]
	half := func(name string) *crowd {
		if name == "together" {
			return &ours
		}
		return &others
	}
	// Room for all of them: what is measured is the table, not what did not fit.
	w.metrics, w.cache = prometheus.NewRegistry(), max(registration.DefaultCache, 768*int64(n))
	w.node = w.newNode(w.db, w.metrics)
	ways := w.ways(all)
	ours.cached(b, ways[0], n)
	others.touch()
	for _, callers := range callers {
		for _, by := range ways {
			half(by.name).run(b, by, callers, slice/2, 1<<40) // warm
		}
		for round := range rounds {
			for _, by := range ways {
				if by.name == "reference" && callers != 256 {
					continue
				}
				wal := w.wal()
				s := half(by.name).run(b, by, callers, slice, 1<<40)
				written := w.wal() - wal
				line(fmt.Sprintf("Verify/rows=%d/callers=%d/round=%d/%s", n, callers, round, by.name), s.n, map[string]float64{
					"ns/op": float64(s.took) / float64(s.n), "cpu-ns/op": s.cpu() * 1e3, "pg-cpu-ns/op": s.server() * 1e3,
					"p50-ns": float64(s.p50), "p99-ns": float64(s.p99), "wal-B/op": float64(written) / float64(s.n),
				})
			}
		}
	}
}

// touch changes every page once, so that no page is written whole in a round: in
// most of the time between two checkpoints it has been.
func (c *crowd) touch() {
	ids := make([]string, len(c.phones))
	for i := range c.phones {
		ids[i] = c.phones[i].text
	}
	conn, err := pgx.Connect(c.w.tb.Context(), c.w.url) // the pool ends statements after ten seconds
	require.NoError(c.w.tb, err)
	defer func() { _ = conn.Close(c.w.tb.Context()) }()
	_, err = conn.Exec(c.w.tb.Context(), "update registration set last_used_at = now() where tenant_id = 'alpha' and id = any($1::uuid[])", ids)
	require.NoError(c.w.tb, err)
}

// wal is how far the server has written its log; pg_stat_wal tells it late.
func (w *world) wal() (at int64) {
	require.NoError(w.tb, w.db.QueryRow(w.tb.Context(), "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint").Scan(&at))
	return at
}

// size is what one registration takes on disk, after loading.
func (w *world) size(n int) map[string]float64 {
	var heap, index float64
	require.NoError(w.tb, w.db.QueryRow(w.tb.Context(), "select pg_table_size('registration'), pg_indexes_size('registration')").Scan(&heap, &index))
	return map[string]float64{"bytes": (heap + index) / float64(n), "index-bytes": index / float64(n)}
}

// cached asks for every registration once, which also changes every page, and says
// what the memory of each is.
func (c *crowd) cached(b *testing.B, by way, n int) {
	callers := min(256, len(c.phones))
	share := len(c.phones) / callers
	empty, before := heap(), resident(b)
	done := make(chan error, callers)
	for g := range callers {
		go func() {
			for i := range share {
				if v, err := by.verify(b.Context(), alpha, c.sign(g*share+i)); err != nil || !v.Valid {
					done <- fmt.Errorf("valid %v: %w", v.Valid, err)
					return
				}
			}
			done <- nil
		}()
	}
	for range callers {
		require.NoError(b, <-done)
	}
	used, count := float64(heap())-float64(empty), float64(share*callers)
	line(fmt.Sprintf("Verify/rows=%d/cached", n), int64(count), map[string]float64{
		"bytes": used / count, "rss-bytes": float64(resident(b)-before) / count,
	})
	runtime.KeepAlive(c)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// resident is the memory that the process has of the system once it has given back
// what it does not use.
func resident(b *testing.B) int64 {
	debug.FreeOSMemory()
	raw, err := os.ReadFile("/proc/self/statm")
	require.NoError(b, err)
	var size, pages int64
	_, err = fmt.Sscan(string(raw), &size, &pages)
	require.NoError(b, err)
	return pages * int64(os.Getpagesize())
}

func line(name string, n int64, figures map[string]float64) {
	fmt.Printf("\nBenchmark%s-%d\t%d", name, runtime.GOMAXPROCS(0), n)
	for unit, v := range figures {
		fmt.Printf("\t%.5g %s", v, unit)
	}
	fmt.Println()
}
