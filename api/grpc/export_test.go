package grpc

import "github.com/signet-hsm/signet/access"

// Privileges is the table.
func Privileges() map[string]access.Set { return privileges }
