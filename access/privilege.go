package access

import (
	"strings"

	"github.com/signet-hsm/signet/tenant"
)

// Privilege is one right. The zero value is none and is refused wherever a
// privilege has to be named.
type Privilege uint8

const (
	Public        Privilege = iota + 1 // no credentials needed
	AdminRead                          // AST: role admin-read
	AdminWrite                         // AST: role admin-write; does not include AdminRead
	ASTClient                          // AST: role ast-client
	PAIntegration                      // PowerAuth: application tier
	PAAdmin                            // PowerAuth: administration
	PAInternal                         // PowerAuth: calls from inner systems
	privilegeEnd
)

var privilegeNames = [...]string{
	"", "public", "admin-read", "admin-write", "ast-client", "integration", "admin", "internal",
}

// String returns the role name of the seeds; "" for an invalid value.
func (p Privilege) String() string {
	if p >= privilegeEnd {
		return ""
	}
	return privilegeNames[p]
}

// Set holds privileges. The zero value holds none.
type Set uint16

// Any makes a set; as a requirement it means "one of these is enough". A value
// that is no privilege adds nothing, so a set made of it stays empty.
func Any(ps ...Privilege) Set {
	var s Set
	for _, p := range ps {
		if p > 0 && p < privilegeEnd {
			s |= 1 << p
		}
	}
	return s
}

// Has reports whether p is in s.
func (s Set) Has(p Privilege) bool { return s&Any(p) != 0 }

// Meets reports whether s holds one of the wanted privileges.
func (s Set) Meets(wanted Set) bool { return s&wanted != 0 }

// String lists the names, "admin-read or ast-client".
func (s Set) String() string {
	var names []string
	for p := Public; p < privilegeEnd; p++ {
		if s.Has(p) {
			names = append(names, p.String())
		}
	}
	return strings.Join(names, " or ")
}

// Principal is an authenticated caller. Treat it as read-only: it may be shared.
type Principal struct {
	Tenant     tenant.ID
	Name       string   // JWT subject, or Basic username
	Privileges Set      // never holds Public
	Apps       []string // Basic: applications the caller may act for, sorted
}
