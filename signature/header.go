package signature

import "strings"

// HeaderName is the HTTP header of a signed request.
const HeaderName = "X-PowerAuth-Authorization"

// Header is a valid X-PowerAuth-Authorization header.
type Header struct {
	ActivationID   string // UUID as sent, in any case
	ApplicationKey [16]byte
	Nonce          [16]byte
	Factors        Factor
	Signature      Signature
	Version        Version
}

// ParseHeader parses and validates; the first broken rule is the error, in the
// order of the reference. A header is accepted when its form is right even if it
// can never match (a decimal signature under "3.1", two components for one
// factor): such a request is a failed attempt, not a malformed one. No
// allocations; the id is a part of s.
func ParseHeader(s string) (Header, error) {
	var id, app, nonce, typ, sig, version string
	for p := newPairs(s); ; {
		key, value, ok := p.next()
		if !ok {
			break
		}
		switch key { // the last of equal keys wins
		case "pa_activation_id":
			id = value
		case "pa_application_key":
			app = value
		case "pa_nonce":
			nonce = value
		case "pa_signature_type":
			typ = value
		case "pa_signature":
			sig = value
		case "pa_version":
			version = value
		}
	}
	h := Header{ActivationID: id}
	switch {
	case id == "":
		return Header{}, ErrActivationIDEmpty
	case !isUUID(id):
		return Header{}, ErrActivationIDInvalid
	case nonce == "":
		return Header{}, ErrNonceEmpty
	case !base64Into(h.Nonce[:], nonce):
		return Header{}, ErrNonceInvalid
	case typ == "":
		return Header{}, ErrTypeEmpty
	}
	var ok bool
	if h.Factors, ok = ParseFactors(typ); !ok {
		return Header{}, ErrTypeInvalid
	}
	if sig == "" {
		return Header{}, ErrSignatureEmpty
	}
	var err error
	if h.Signature, err = ParseSignature(sig); err != nil {
		return Header{}, err
	}
	switch {
	case app == "":
		return Header{}, ErrApplicationEmpty
	case !base64Into(h.ApplicationKey[:], app):
		return Header{}, ErrApplicationInvalid
	case version == "":
		return Header{}, ErrVersionEmpty
	}
	if h.Version, ok = ParseVersion(version); !ok {
		return Header{}, ErrVersionInvalid
	}
	return h, nil
}

// String writes the header in the order of the mobile SDK.
func (h Header) String() string {
	var b strings.Builder
	b.Grow(256)
	b.WriteString(headerPrefix)
	writePair(&b, "pa_version", h.Version.String(), ", ")
	writePair(&b, "pa_activation_id", h.ActivationID, ", ")
	writePair(&b, "pa_application_key", EncodeBase64(h.ApplicationKey[:]), ", ")
	writePair(&b, "pa_nonce", EncodeBase64(h.Nonce[:]), ", ")
	writePair(&b, "pa_signature_type", h.Factors.String(), ", ")
	writePair(&b, "pa_signature", h.Signature.String(), "")
	return b.String()
}

func writePair(b *strings.Builder, key, value, end string) {
	b.WriteString(key)
	b.WriteString(`="`)
	b.WriteString(value)
	b.WriteByte('"')
	b.WriteString(end)
}
