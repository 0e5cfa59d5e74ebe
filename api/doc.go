// Package api joins the HTTP parts of signet to one handler and one server, with
// the limits that a server on an open network needs. The parts are api/ast,
// api/powerauth and api/ops; gRPC has a listener of its own (api/grpc).
//
// States: a Throttle, where one is configured, remembers in this process what each
// address has asked lately; otherwise none. Owns: nothing. Callers: cmd.
package api
