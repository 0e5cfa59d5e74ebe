package grpc

import (
	"time"

	"github.com/signet-hsm/signet/access"
)

// Privileges is the table.
func Privileges() map[string]access.Set { return privileges }

// EndStreamsAfter is for tests that can not wait.
func (s *Server) EndStreamsAfter(d time.Duration) { s.streamLife = d }
