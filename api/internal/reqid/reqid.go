package reqid

import (
	"context"
	"crypto/rand"
)

// Header carries the id in HTTP; Metadata in gRPC.
const (
	Header   = "X-Request-Id"
	Metadata = "x-request-id"
)

const maxLen = 64

type key struct{}

// Pick returns offered when it is an id that can stand anywhere (1..64
// characters of letters, digits, '-', '_', '.'), else a new one.
func Pick(offered string) string {
	if len(offered) == 0 || len(offered) > maxLen {
		return rand.Text()
	}
	for i := 0; i < len(offered); i++ {
		switch c := offered[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return rand.Text()
		}
	}
	return offered
}

// With returns a context that carries the id.
func With(ctx context.Context, id string) context.Context { return context.WithValue(ctx, key{}, id) }

// IsKey reports whether a context is asked for the id: for contexts that carry it
// in a field of their own.
func IsKey(k any) bool {
	_, ok := k.(key)
	return ok
}

// From returns the id, "" when there is none.
func From(ctx context.Context) string {
	id, _ := ctx.Value(key{}).(string)
	return id
}
