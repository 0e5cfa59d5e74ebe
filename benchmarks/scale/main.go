package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

// measured is the 2-core machine of docs/scaling.md, alone.
func measured() model {
	return model{
		nodes: 1, cores: 1, lanes: 2, maxBatch: 256, dbCores: 1,
		node: 13 * time.Microsecond, batch: 250 * time.Microsecond, item: 25 * time.Microsecond,
		sync: 120 * time.Microsecond, trip: 100 * time.Microsecond,
		callers: 256, requests: 200_000, seed: 1,
	}
}

func main() {
	m := measured()
	m.cores, m.dbCores, m.sync, m.trip, m.node = 4, 8, time.Millisecond, 500*time.Microsecond, 40*time.Microsecond
	flag.IntVar(&m.cores, "cores", m.cores, "of each node")
	flag.IntVar(&m.lanes, "lanes", m.lanes, "of each node")
	flag.IntVar(&m.dbCores, "db-cores", m.dbCores, "of the primary")
	flag.IntVar(&m.maxBatch, "batch", m.maxBatch, "verdicts of one commit, at most")
	flag.DurationVar(&m.node, "node", m.node, "CPU of a node for each verdict, serving included")
	flag.DurationVar(&m.batch, "per-batch", m.batch, "CPU of the database for each batch")
	flag.DurationVar(&m.item, "per-item", m.item, "CPU of the database for each verdict")
	flag.DurationVar(&m.sync, "sync", m.sync, "one sync of the log")
	flag.DurationVar(&m.trip, "trip", m.trip, "round trip to the database")
	flag.IntVar(&m.requests, "requests", m.requests, "verdicts to simulate")
	flag.Parse()
	if flag.NArg() > 0 || m.cores < 1 || m.lanes < 1 || m.dbCores < 1 || m.maxBatch < 1 || m.requests < 1 {
		flag.Usage()
		os.Exit(2)
	}
	fmt.Println("| nodes | arriving/s | answered/s | p50 | p99 | batch | nodes busy | database busy | log busy |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	for _, nodes := range []int{1, 2, 4, 8} {
		for _, rate := range []float64{1_000, 10_000, 25_000, 50_000, 100_000, 150_000} {
			m.nodes, m.rate = nodes, rate
			o := m.run()
			answered := fmt.Sprintf("%.0f", o.rate)
			if o.backlogged {
				answered += ", falls behind"
			}
			fmt.Printf("| %d | %.0f | %s | %.1f ms | %.1f ms | %.0f | %.0f %% | %.0f %% | %.0f %% |\n", nodes, rate, answered,
				o.p50.Seconds()*1e3, o.p99.Seconds()*1e3, o.batch, 100*o.nodeBusy, 100*o.dbBusy, 100*o.syncBusy)
			if o.backlogged {
				break
			}
		}
	}
}
