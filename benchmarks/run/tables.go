package main

import "time"

// sources are the programs that measure.
var sources = map[string]source{
	"kernel": {
		test: "signature", starts: eachRound,
		args: func(e env) []string {
			return []string{"-test.run=^$", "-test.bench=^BenchmarkKernel$", "-test.benchtime=" + e.slice(120*time.Millisecond, 60*time.Millisecond)}
		},
	},
	"hsmbench": {
		program: "benchmarks/hsm", starts: once, needs: []string{"rawc"},
		args: func(e env) []string { return e.own(e.slice(250*time.Millisecond, 100*time.Millisecond)) },
	},
	"issue": {
		program: "benchmarks/issue", starts: once, needs: []string{"rawc"},
		args: func(e env) []string {
			return append(e.own(e.slice(time.Second, 400*time.Millisecond)), "-part", "process")
		},
	},
	"issuehttps": {
		program: "benchmarks/issue", starts: once, needs: []string{"signet", "stepca"},
		args: func(e env) []string {
			return append(e.own(e.slice(1500*time.Millisecond, 500*time.Millisecond)), "-part", "https")
		},
	},
	"signet": {program: "cmd/signet"},
	"stepca": {program: "stepca", module: "benchmarks/peers"},
	"rawc":   {c: "benchmarks/rawc/rawc.c"},
}

// tables are what is compared, in the order of the report.
var tables = []table{kernelTable, hsmTable, issueTable}
