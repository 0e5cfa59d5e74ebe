// Package spec is the contract of this dialect, openapi.yaml, and the Go models
// generated from it by tools/gen.sh. The models are shapes only: rules (lengths,
// patterns, who may call) are checked by the handlers, and a test compares their
// verdicts with the contract. Nothing here has state.
package spec
