package signature

import "strings"

// EncryptionHeaderName is the HTTP header of an encrypted, unsigned request.
const EncryptionHeaderName = "X-PowerAuth-Encryption"

// EncryptionHeader is a valid X-PowerAuth-Encryption header.
type EncryptionHeader struct {
	ApplicationKey [16]byte
	ActivationID   string // in activation scope only
	Version        Version
}

// ParseEncryptionHeader parses and validates for a scope, in the order of the
// reference: activation scope wants an activation id, application scope none.
func ParseEncryptionHeader(s string, scope Scope) (EncryptionHeader, error) {
	var id, app, version string
	for p := newPairs(s); ; {
		key, value, ok := p.next()
		if !ok {
			break
		}
		switch key {
		case "application_key":
			app = value
		case "activation_id":
			id = value
		case "version":
			version = value
		}
	}
	h := EncryptionHeader{ActivationID: id}
	switch {
	case app == "":
		return EncryptionHeader{}, ErrEncryptionAppEmpty
	case !base64Into(h.ApplicationKey[:], app):
		return EncryptionHeader{}, ErrEncryptionAppInvalid
	case scope == ActivationScope && id == "":
		return EncryptionHeader{}, ErrEncryptionIDMissing
	case scope == ActivationScope && !isUUID(id):
		return EncryptionHeader{}, ErrEncryptionIDInvalid
	case scope != ActivationScope && id != "":
		return EncryptionHeader{}, ErrEncryptionIDExtra
	case version == "":
		return EncryptionHeader{}, ErrEncryptionNoVersion
	}
	var ok bool
	if h.Version, ok = ParseVersion(version); !ok {
		return EncryptionHeader{}, ErrEncryptionVersion
	}
	return h, nil
}

// String writes the header in the order of the mobile SDK.
func (h EncryptionHeader) String() string {
	var b strings.Builder
	b.Grow(128)
	b.WriteString(headerPrefix)
	writePair(&b, "version", h.Version.String(), ", ")
	if h.ActivationID == "" {
		writePair(&b, "application_key", EncodeBase64(h.ApplicationKey[:]), "")
		return b.String()
	}
	writePair(&b, "application_key", EncodeBase64(h.ApplicationKey[:]), ", ")
	writePair(&b, "activation_id", h.ActivationID, "")
	return b.String()
}
