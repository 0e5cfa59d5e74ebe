// Package spec is the contract of this dialect, openapi.yaml as it was given and
// extensions.yaml with what signet serves beside it, and the Go models generated
// from both by tools/gen.sh. The models are shapes only: rules (lengths,
// patterns, who may call) are checked by the handlers, and a test compares their
// verdicts with the contract. Nothing here has state.
package spec
