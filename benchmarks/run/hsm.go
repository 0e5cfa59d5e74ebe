package main

import (
	"fmt"
	"strings"
)

// hsmTable is package hsm beside C and the libraries for Go.
var hsmTable = table{
	name: "hsm", title: "HSM: SoftHSM2 on two cores", from: []string{"hsmbench"},
	about: "Raw C is one thread with C_SignInit and C_Sign on the token's key; the ceiling two threads on two copies of the module with session copies of the key. miekg and crypto11 have four sessions. Tuned is ours with the means of the ceiling, `instances: 2` and `session_copies: auto` (docs/hsm.md); the other rows are ours as it comes. Unguarded calls in the caller's goroutine, which a hanging module takes along.",
	rows:  hsmRows(),
}

func hsmRows() []row {
	rows := []row{{what: "P-256: allocations per signature", ours: "HSM/P-256/callers=1/signet", unit: "allocs/op", bar: none}}
	for _, op := range []string{"P-256", "P-384", "RSA-3072", "Ed25519", "HMAC", "GCM"} {
		what := map[string]string{"HMAC": "HMAC-SHA256, 64 bytes", "GCM": "AES-256-GCM, 32 bytes"}[op]
		if what == "" {
			what = op + " sign"
		}
		key := "HSM/" + op
		ours := func(callers int) string { return fmt.Sprintf("%s/callers=%d/signet", key, callers) }
		rows = append(rows, row{what: goroutines(what, 1), ours: ours(1), against: key + "/raw", note: "raw C", bar: signing(op, 0.95)})
		rows = append(rows, row{what: goroutines(what, 1) + ", unguarded", ours: key + "/callers=1/unguarded", against: key + "/raw", note: "raw C"})
		tuned := func(callers int) string { return fmt.Sprintf("%s/callers=%d/tuned", key, callers) }
		for _, callers := range []int{8, 64} {
			r := row{what: goroutines(what, callers) + ", tuned", ours: tuned(callers), against: key + "/ceiling", note: "C ceiling"}
			if callers == 64 {
				r.bar = signing(op, 0.75)
			}
			rows = append(rows, r)
		}
		for _, callers := range []int{1, 8, 64} {
			rows = append(rows, row{
				what: goroutines(what, callers), ours: ours(callers),
				against: fmt.Sprintf("%s/callers=%d/miekg", key, callers), note: "bare miekg",
			})
			if op == "Ed25519" { // which crypto11 does not know
				continue
			}
			r := row{
				what: goroutines(what, callers), ours: ours(callers),
				against: fmt.Sprintf("%s/callers=%d/crypto11", key, callers), note: "crypto11",
			}
			rows = append(rows, r)
			if callers == 64 {
				r.what, r.ours = r.what+", tuned", tuned(callers)
				if op == "P-256" {
					r.bar = bar{least: 2}
				}
				rows = append(rows, r)
			}
		}
	}
	for _, n := range []int{10, 1000, 10000} {
		key := fmt.Sprintf("HSM/objects=%d", n)
		what := fmt.Sprintf("%s objects on the token: ", thousands(float64(n)))
		rows = append(rows,
			row{what: what + "P-256 sign, 1 goroutine", ours: key + "/signet", against: key + "/raw", note: "raw C", full: n == 10000},
			row{what: what + "key by its name", ours: key + "/lookup/signet", against: key + "/lookup/crypto11", note: "crypto11", full: n == 10000},
			row{what: what + "open", ours: key + "/open/signet", unit: "ns/op", full: n == 10000},
		)
	}
	for i := range rows {
		for _, op := range []string{"P-384", "RSA-3072", "Ed25519", "GCM"} {
			rows[i].full = rows[i].full || strings.Contains(rows[i].ours, "/"+op+"/")
		}
	}
	return rows
}

func goroutines(what string, n int) string {
	if n == 1 {
		return what + ", 1 goroutine"
	}
	return fmt.Sprintf("%s, %d goroutines", what, n)
}

// signing is the bar of signatures of elliptic curves and RSA: what the library
// adds shows in them least, and the bar is told of signatures only.
func signing(op string, least float64) bar {
	if op == "HMAC" || op == "GCM" {
		return bar{}
	}
	return bar{least: least}
}
