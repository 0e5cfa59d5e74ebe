package main

import "fmt"

// verifyTable is package registration on a database that syncs.
var verifyTable = table{
	name: "verify", title: "Durable verifications, in process", from: []string{"verify"},
	about: "A valid 2-factor signature with its audit event, each commit synced, keys ready on both sides. \"Naive\" is one transaction for each request on the same table: lock the row, verify, update it, insert the event. \"Reference\" agrees on keys in it as well. CPU includes PostgreSQL's. The rows of different table sizes were not measured in turns.",
	rows:  verifyRows(),
}

func verifyRows() []row {
	var rows []row
	at := func(size, callers int, way string) string {
		return fmt.Sprintf("Verify/rows=%d/callers=%d/%s", size, callers, way)
	}
	for _, form := range []struct {
		size        int
		full, quick bool
	}{{100_000, true, false}, {10_000, false, true}} {
		n := form.size
		var some []row
		for _, callers := range []int{1, 16, 256, 1024} {
			r := row{what: fmt.Sprintf("%d callers, %s registrations", callers, thousands(float64(n))), ours: at(n, callers, "together"), against: at(n, callers, "naive"), note: "naive"}
			if callers == 256 {
				r.bar = bar{least: 15}
			}
			if callers == 1 {
				r.what = fmt.Sprintf("1 caller, %s registrations", thousands(float64(n)))
			}
			some = append(some, r)
		}
		some = append(some,
			row{what: "1 caller: median latency", ours: at(n, 1, "together"), against: at(n, 1, "naive"), unit: "p50-ns", note: "naive", bar: bar{most: 1.1}},
			row{what: "256 callers", ours: at(n, 256, "together"), against: at(n, 256, "reference"), note: "reference"},
			row{what: "256 callers: median latency", ours: at(n, 256, "together"), unit: "p50-ns"},
			row{what: "256 callers: 99th percentile", ours: at(n, 256, "together"), unit: "p99-ns"},
		)
		for _, r := range some {
			r.full, r.quick = form.full, form.quick
			rows = append(rows, r)
		}
	}
	for _, n := range []int{1024, 1_000_000} {
		what := fmt.Sprintf("256 callers, %s registrations", thousands(float64(n)))
		rows = append(rows,
			row{what: what, ours: at(n, 256, "together"), against: at(n, 256, "naive"), note: "naive", bar: bar{least: 15}, full: true})
	}
	return append(rows,
		row{what: "rate with 1,000,000 registrations", ours: at(1_000_000, 256, "together"), against: at(1024, 256, "together"), note: "with 1,024", bar: bar{least: 0.85}, full: true},
		row{what: "CPU with 1,000,000 registrations", ours: at(1_000_000, 256, "together"), against: at(1024, 256, "together"), unit: "cpu-ns/op", note: "with 1,024", full: true})
}

// servingTable is the same over a transport, from another process.
var servingTable = table{
	name: "serving", title: "End to end, from a load process of its own", from: []string{"grpc", "rest"},
	about: "gRPC from 256 callers on 8 connections, REST from 64 on as many. The echo is the same server, transport and messages without our work. \"Memory\" is our work of serving in front of a domain that answers at once; durable has the whole installation behind it. CPU is the serving process's.",
	rows: []row{
		{what: "gRPC token, durable", ours: "Serving/token/durable", against: "Serving/token/echo", note: "bare echo", bar: bar{least: 0.8}},
		{what: "gRPC token, memory", ours: "Serving/token/served", against: "Serving/token/echo", note: "bare echo"},
		{what: "gRPC signature, durable", ours: "Serving/signature/durable", against: "Serving/signature/echo", note: "bare echo", bar: bar{least: 0.4}},
		{what: "gRPC signature, memory", ours: "Serving/signature/served", against: "Serving/signature/echo", note: "bare echo"},
		{what: "gRPC signature, durable", ours: "ServingAgainstNaive/signature/durable", against: "ServingAgainstNaive/signature/naive", note: "naive transaction", bar: bar{least: 12}},
		{what: "REST token, durable", ours: "REST/Serving/token/durable", against: "REST/Serving/token/echo", note: "bare echo", bar: bar{least: 0.8}},
		{what: "REST token, memory", ours: "REST/Serving/token/served", against: "REST/Serving/token/echo", note: "bare echo"},
		{what: "REST signature, durable", ours: "REST/Serving/signature/durable", against: "REST/Serving/signature/echo", note: "bare echo", bar: bar{least: 0.4}},
		{what: "REST signature, memory", ours: "REST/Serving/signature/served", against: "REST/Serving/signature/echo", note: "bare echo"},
	},
}

// overloadTable is what is left of the peak when more is asked for.
var overloadTable = table{
	name: "overload", title: "Overload", from: []string{"overload"},
	about: "Verifications over gRPC from `signet load`. The peak is 256 callers that call again when they have their answer. Then calls are due at three times the peak, from three times the callers. Refusing: the service lets in 256 at once and refuses the rest, on the cores that it shares with the callers, who ask again at once.",
	rows: []row{
		{what: "goodput at three times the peak", ours: "Overload/asked", against: "Overload/peak", note: "the peak", bar: bar{least: 0.9}},
		{what: "the same, refusing", ours: "Overload/refusing/asked", against: "Overload/refusing/peak", note: "the peak"},
		{what: "99th percentile of what is answered", ours: "Overload/asked", unit: "p99-ns"},
		{what: "99th percentile at the peak", ours: "Overload/peak", unit: "p99-ns"},
	},
}

// footprintTable is what it takes.
var footprintTable = table{
	name: "footprint", title: "Footprint", from: []string{"footprint", "verify"},
	about: "Start to ready is `signet serve` on a migrated database with a SoftHSM token, on TLS. Memory of a cached registration is the growth of the heap, after garbage collection, over as many as there are; WAL is without full-page images, as it is most of the time between two checkpoints.",
	rows: []row{
		{what: "start to ready", ours: "Footprint/start", unit: "ns/op"},
		{what: "resident memory, idle", ours: "Footprint/start", unit: "bytes"},
		{what: "a cached registration, of 500,000", ours: "Verify/rows=1000000/cached", unit: "bytes", bar: bar{most: 512}, full: true},
		{what: "the same, resident in the process", ours: "Verify/rows=1000000/cached", unit: "rss-bytes", full: true},
		{what: "a registration in the table, with its indexes", ours: "Verify/rows=100000/table", unit: "bytes", full: true},
		{what: "WAL of a verification, 256 callers", ours: "Verify/rows=100000/callers=256/together", against: "Verify/rows=100000/callers=256/naive", unit: "wal-B/op", note: "naive", full: true},
		{what: "WAL of a verification, 1 caller", ours: "Verify/rows=100000/callers=1/together", against: "Verify/rows=100000/callers=1/naive", unit: "wal-B/op", note: "naive", full: true},
	},
}
