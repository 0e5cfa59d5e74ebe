package grpc

import (
	"context"
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

// Unary is the path of a call, without a transport.
func (s *Server) Unary(ctx context.Context, req any, method string, handler grpc.UnaryHandler) (any, error) {
	return s.unary(ctx, req, &grpc.UnaryServerInfo{FullMethod: method}, handler)
}

// Stop ends a server that never served.
func (s *Server) Stop() { s.server.Stop() }

// Transport is how connections are served, for an echo that is to be served alike.
func Transport() []grpc.ServerOption { return transport() }
