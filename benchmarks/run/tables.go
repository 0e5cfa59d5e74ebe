package main

import (
	"strconv"
	"time"
)

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
	"verify": {
		test: "registration", starts: once,
		env: func(e env) []string {
			sizes := "100000,1024,1000000"
			if e.quick {
				sizes = "10000"
			}
			return []string{
				"SIGNET_BENCH_ROUNDS=" + strconv.Itoa(e.rounds), "SIGNET_BENCH_SLICE=" + e.slice(500*time.Millisecond, 250*time.Millisecond),
				"SIGNET_BENCH_SIZES=" + sizes,
			}
		},
		args: func(env) []string { return goBench("^BenchmarkRounds$") },
	},
	"grpc": {test: "api/grpc", starts: once, env: lines, args: func(e env) []string { return served(e, "^BenchmarkServing") }},
	"rest": {as: "REST/", test: "api/powerauth", starts: once, env: lines, args: func(e env) []string { return served(e, "^BenchmarkServing") }},
	"overload": {
		program: "benchmarks/overload", starts: once, needs: []string{"signet"},
		args: func(e env) []string { return e.own(e.slice(4*time.Second, 2*time.Second)) },
	},
	"footprint": {
		program: "benchmarks/footprint", starts: once, needs: []string{"signet"},
		args: func(e env) []string { return e.own("1s") },
	},
	"signet": {program: "cmd/signet"},
	"stepca": {program: "stepca", module: "benchmarks/peers"},
	"rawc":   {c: "benchmarks/rawc/rawc.c"},
}

// tables are what is compared, in the order of the report.
var tables = []table{kernelTable, hsmTable, issueTable, verifyTable, servingTable, overloadTable, footprintTable}

// goBench runs a benchmark that alternates and prints its rounds itself.
func goBench(pattern string) []string {
	return []string{"-test.run=^$", "-test.bench=" + pattern, "-test.benchtime=1x", "-test.timeout=15m"}
}

func served(e env, pattern string) []string {
	args := goBench(pattern)
	if e.quick {
		args = append(args, "-test.short")
	}
	return args
}

// lines asks the duels of package apitest for a line of each round.
func lines(e env) []string { return []string{"SIGNET_BENCH_ROUNDS=" + strconv.Itoa(e.rounds)} }
