package hsm

import (
	"fmt"
	"strconv"
	"strings"
)

// Role says what a key may do; template.go holds the attributes of each.
type Role string

const (
	RoleRoot   Role = "root"   // signs issuer certificates
	RoleIssuer Role = "issuer" // signs signer certificates
	RoleSigner Role = "signer" // signs device certificates, CRLs, configurations
	RoleMaster Role = "master" // PowerAuth application key: signs and agrees
	RoleKEK    Role = "kek"    // AES-256-GCM over data keys
	RoleMAC    Role = "mac"    // HMAC-SHA256
	RoleAudit  Role = "audit"  // signs checkpoints of the audit log
	RoleOCSP   Role = "ocsp"   // signs OCSP responses for one CA
	RoleCRL    Role = "crl"    // signs CRLs for one CA, where it does not itself
)

// Algorithm names a kind of key.
type Algorithm string

const (
	P256       Algorithm = "P-256"
	P384       Algorithm = "P-384"
	RSA2048    Algorithm = "RSA-2048"
	RSA3072    Algorithm = "RSA-3072"
	Ed25519    Algorithm = "Ed25519"
	AES256     Algorithm = "AES-256"
	HMACSHA256 Algorithm = "HMAC-SHA256"
)

// labelPrefix marks an object as ours; the 1 is the version of the scheme.
const labelPrefix = "signet/1/"

// maxLabel bounds a label in bytes; modules cut or refuse longer ones.
const maxLabel = 255

// Ref names one key. Its String is the object's CKA_LABEL; the mapping is one to
// one. Tenant and Name are printable ASCII without '/' and blank.
type Ref struct {
	Tenant     string
	Role       Role
	Name       string
	Generation int // 0 and up; a rotated key keeps its name and counts on
}

// String returns "signet/1/<tenant>/<role>/<name>/<generation>".
func (r Ref) String() string {
	return labelPrefix + r.Tenant + "/" + string(r.Role) + "/" + r.Name + "/" + strconv.Itoa(r.Generation)
}

// Validate returns ErrRef when r can not be a label.
func (r Ref) Validate() error {
	_, known := roles[r.Role]
	switch {
	case !known:
		return fmt.Errorf("hsm: %w: unknown role %q", ErrRef, r.Role)
	case !segment(r.Tenant), !segment(r.Name):
		return fmt.Errorf("hsm: %w: tenant and name must be printable ASCII without '/' or blanks", ErrRef)
	case r.Generation < 0:
		return fmt.Errorf("hsm: %w: negative generation", ErrRef)
	case len(r.String()) > maxLabel:
		return fmt.Errorf("hsm: %w: longer than %d bytes", ErrRef, maxLabel)
	}
	return nil
}

// ParseRef is the inverse of String; it accepts exactly what String makes of a
// valid Ref and answers everything else with ErrRef.
func ParseRef(label string) (Ref, error) {
	rest, ours := strings.CutPrefix(label, labelPrefix)
	part := strings.Split(rest, "/")
	if !ours || len(part) != 4 {
		return Ref{}, fmt.Errorf("hsm: %w", ErrRef)
	}
	generation, err := strconv.Atoi(part[3])
	if err != nil {
		return Ref{}, fmt.Errorf("hsm: %w: generation", ErrRef)
	}
	r := Ref{Tenant: part[0], Role: Role(part[1]), Name: part[2], Generation: generation}
	if err := r.Validate(); err != nil {
		return Ref{}, err
	}
	if r.String() != label { // leading zeros, a sign
		return Ref{}, fmt.Errorf("hsm: %w: not canonical", ErrRef)
	}
	return r, nil
}

func segment(s string) bool {
	if s == "" {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c > '~' || c == '/' {
			return false
		}
	}
	return true
}
