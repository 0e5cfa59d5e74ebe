package main

import "fmt"

// issueTable is package ca and the whole program.
var issueTable = table{
	name: "issue", title: "Certificates, P-256, durable", from: []string{"issue", "issuehttps"},
	about: "\"Sampled\": one certificate in 100 linted in full and one signature in 100 verified, compiled checks for the others; \"every\": all of them. Durable is from the request, its signature checked, to the record with its audit event, every commit synced; bare is draft and signature alone. " +
		"Raw is C with two threads on one instance of the module and the signer's own key, the ceiling two instances with session copies, as ours has in process; `signet serve` has the defaults. crypto11 with x509.CreateCertificate checks no request and stores nothing. step-ca runs beside `signet serve`, both over HTTPS with keep-alive, its own SoftHSM token and badger with synced writes.",
	rows: issueRows(),
}

func issueRows() []row {
	var rows []row
	add := func(r row, full bool) {
		r.full = full
		rows = append(rows, r)
	}
	for _, n := range []int{1, 8, 32} {
		key := fmt.Sprintf("Issue/callers=%d/", n)
		name := fmt.Sprintf(", %d callers", n)
		if n == 1 {
			name = ", 1 caller"
		}
		bare, peer, efficient := row{what: "bare" + name, ours: key + "bare", against: "Issue/ceiling", note: "C ceiling"},
			row{what: "bare" + name, ours: key + "bare", against: key + "crypto11", note: "crypto11 + x509"},
			row{what: "durable, sampled" + name, ours: key + "sampled", against: "Issue/raw", note: "raw signatures"}
		if n == 32 {
			bare.bar, peer.bar = bar{least: 0.65}, bar{least: 4}
		}
		if n != 1 {
			efficient.bar = bar{least: 0.6}
		}
		add(bare, n != 8)
		add(peer, n != 8)
		add(efficient, n != 8)
		add(row{what: "durable, every" + name, ours: key + "every", against: "Issue/raw", note: "raw signatures"}, n != 8)
		add(row{what: "durable, sampled" + name, ours: key + "sampled", against: key + "crypto11", note: "crypto11 + x509, not durable"}, n != 8)
	}
	for _, n := range []int{1, 8, 32} {
		key := fmt.Sprintf("IssueHTTPS/clients=%d/", n)
		r := row{what: fmt.Sprintf("REST, %d clients", n), ours: key + "signet", against: key + "stepca", note: "step-ca"}
		if n == 8 {
			r.bar = bar{least: 10}
		}
		add(r, n != 8)
		add(row{what: fmt.Sprintf("REST, %d clients: median latency", n), ours: key + "signet", against: key + "stepca", unit: "p50-ns", note: "step-ca"}, n != 8)
	}
	return rows
}
