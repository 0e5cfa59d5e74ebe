// Package signetv1 is signet's gRPC interface: the .proto files and the code
// generated from them by tools/gen.sh. It is promised stable to outsiders: fields
// and values are added, never renumbered or given another meaning. It imports
// nothing of signet's and has no state.
package signetv1
