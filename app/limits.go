package app

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/signet-hsm/signet/fault"
)

// Bounds of the texts of an application, in characters, and of its roles.
const (
	MaxText  = 255
	MaxRoles = 100
)

func (p CreateParams) validate() error {
	var v []fault.Violation
	if !text(p.ID) {
		v = append(v, fault.Violation{Field: "id", Value: p.ID, Hint: hintText})
	}
	v = append(v, checkRoles(p.Roles)...)
	seen := make(map[string]bool, len(p.Roles))
	for i, role := range p.Roles {
		if seen[role] {
			v = append(v, fault.Violation{Field: fmt.Sprintf("roles[%d]", i), Value: role, Hint: "must not repeat"})
		}
		seen[role] = true
	}
	if v != nil {
		return ErrInvalid.With(v...)
	}
	return nil
}

func checkRoles(roles []string) (v []fault.Violation) {
	if len(roles) > MaxRoles {
		return []fault.Violation{{Field: "roles", Hint: fmt.Sprintf("must have at most %d elements", MaxRoles)}}
	}
	for i, role := range roles {
		if !text(role) {
			v = append(v, fault.Violation{Field: fmt.Sprintf("roles[%d]", i), Value: role, Hint: hintText})
		}
	}
	return v
}

const hintText = "must be 1 to 255 characters"

// text reports whether s is 1..MaxText characters that PostgreSQL can store.
func text(s string) bool {
	return s != "" && utf8.ValidString(s) && utf8.RuneCountInString(s) <= MaxText && !strings.ContainsRune(s, 0)
}
