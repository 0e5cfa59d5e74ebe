package grpc

import (
	"time"

	"google.golang.org/grpc"

	"github.com/signet-hsm/signet/access"
)

// Privileges is the table.
func Privileges() map[string]access.Set { return privileges }

// EndStreamsAfter is for tests that can not wait.
func (s *Server) EndStreamsAfter(d time.Duration) { s.streamLife = d }

// RecheckEvery is for tests that can not wait.
func (s *Server) RecheckEvery(d time.Duration) { s.recheckEvery = d }

// Transport is how connections are served, for an echo that is to be served alike.
func Transport() []grpc.ServerOption { return transport() }
