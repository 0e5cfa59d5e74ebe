package hsm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"
)

// role is what a key may be and do. A key does what is true here and nothing
// else: a module left to choose gives CA keys DECRYPT and UNWRAP, and AES keys
// WRAP beside DECRYPT, which is how keys are read out of HSMs.
type role struct {
	algorithms   []Algorithm
	sign, derive bool
	encrypt      bool // and decrypt
	// copies: with Config.SessionCopies the key may be copied into a session, and
	// on SoftHSM, which copies no other, it is MODIFIABLE.
	copies bool
	// checked: whoever signs with such a key verifies the whole of what it signed
	// before that leaves (certificates, CRLs, OCSP answers, configurations). The
	// signatures of the other roles are verified in Signer.
	checked bool
}

// No key is COPYABLE or MODIFIABLE, unless Config.SessionCopies says so for the
// roles that may. SoftHSM copies only keys that are both, and whoever holds the
// PIN may then give the copy, or the key itself, DECRYPT, UNWRAP, DERIVE and WRAP
// (never EXTRACTABLE). For the keys of the other roles that would matter: a KEK
// that may WRAP reads keys out. docs/design/0019 has the measurements.

var roles = map[Role]role{
	RoleRoot:   {algorithms: []Algorithm{P256, P384, RSA3072, Ed25519}, sign: true, checked: true},
	RoleIssuer: {algorithms: []Algorithm{P256, P384, RSA3072, Ed25519}, sign: true, checked: true},
	RoleSigner: {algorithms: []Algorithm{P256, P384, RSA2048, RSA3072, Ed25519}, sign: true, copies: true, checked: true},
	// PowerAuth wants both from one key: the device encrypts to the key whose
	// signatures it trusts (powerauth-crypto, "KEY_SERVER_MASTER").
	RoleMaster: {algorithms: []Algorithm{P256}, sign: true, derive: true},
	RoleKEK:    {algorithms: []Algorithm{AES256}, encrypt: true},
	RoleMAC:    {algorithms: []Algorithm{HMACSHA256}, sign: true, copies: true},
	RoleAudit:  {algorithms: []Algorithm{P256}, sign: true},
	RoleOCSP:   {algorithms: []Algorithm{P256}, sign: true, copies: true, checked: true},
	RoleCRL:    {algorithms: []Algorithm{P256}, sign: true, copies: true, checked: true},
}

func (r role) allows(a Algorithm) bool { return slices.Contains(r.algorithms, a) }

// Allows reports whether keys of a role may be of an algorithm.
func Allows(r Role, a Algorithm) bool { return roles[r].allows(a) }

// attribute is one line of a template.
type attribute struct {
	typ  uint
	want any // bool, uint or []byte
	// optional attributes are left out when the module does not know them.
	optional bool
	// born attributes can only be read: they tell how the key came to be.
	born bool
}

// half says which object of a key a template is for.
type half uint8

const (
	halfPrivate half = iota
	halfPublic
	halfSecret
)

// guard says what may be done to a key that is there; the zero guard nothing.
type guard struct{ modifiable, copyable bool }

// guardOf returns how keys of a role are made on this token.
func (in *instance) guardOf(r role) guard {
	ok := in.t.config.SessionCopies && r.copies
	return guard{modifiable: ok && in.t.softHSM(), copyable: ok}
}

// usage returns every usage bit and guard of one half, without its identity
// (label, id, key material).
func (r role) usage(h half, a Algorithm, g guard) []attribute {
	no := func(types ...uint) (list []attribute) {
		for _, t := range types {
			list = append(list, attribute{typ: t, want: false})
		}
		return list
	}
	list := []attribute{{typ: p11.CKA_TOKEN, want: true}}
	switch h {
	case halfPublic:
		list = append(list, attribute{typ: p11.CKA_VERIFY, want: r.sign})
		list = append(list, no(p11.CKA_PRIVATE, p11.CKA_MODIFIABLE, p11.CKA_VERIFY_RECOVER, p11.CKA_ENCRYPT, p11.CKA_WRAP, p11.CKA_DERIVE)...)
		return append(list,
			attribute{typ: p11.CKA_COPYABLE, want: false, optional: true},
			attribute{typ: p11.CKA_LOCAL, want: true, born: true})
	case halfPrivate:
		list = append(list, attribute{typ: p11.CKA_SIGN, want: r.sign}, attribute{typ: p11.CKA_DERIVE, want: r.derive})
		list = append(list, no(p11.CKA_SIGN_RECOVER, p11.CKA_DECRYPT, p11.CKA_UNWRAP, p11.CKA_ALWAYS_AUTHENTICATE)...)
	case halfSecret:
		list = append(list, attribute{typ: p11.CKA_SIGN, want: r.sign},
			attribute{typ: p11.CKA_ENCRYPT, want: r.encrypt}, attribute{typ: p11.CKA_DECRYPT, want: r.encrypt})
		list = append(list, no(p11.CKA_VERIFY, p11.CKA_WRAP, p11.CKA_UNWRAP, p11.CKA_DERIVE)...)
	}
	return append(list,
		attribute{typ: p11.CKA_PRIVATE, want: true},
		attribute{typ: p11.CKA_SENSITIVE, want: true},
		attribute{typ: p11.CKA_EXTRACTABLE, want: false},
		attribute{typ: p11.CKA_MODIFIABLE, want: g.modifiable},
		attribute{typ: p11.CKA_COPYABLE, want: g.copyable, optional: true},
		attribute{typ: p11.CKA_ALLOWED_MECHANISMS, want: ulongs(r.mechanisms(a)), optional: true},
		attribute{typ: p11.CKA_LOCAL, want: true, born: true},
		attribute{typ: p11.CKA_ALWAYS_SENSITIVE, want: true, born: true},
		attribute{typ: p11.CKA_NEVER_EXTRACTABLE, want: true, born: true})
}

// acceptable are the attributes that Config.Accept may name. No use of a key that
// reads another one out can be among them.
var acceptable = map[string]uint{"LOCAL": p11.CKA_LOCAL, "ENCRYPT": p11.CKA_ENCRYPT, "DECRYPT": p11.CKA_DECRYPT}

// usage is role.usage without what the operator accepts of this module. A bit
// that the role needs is demanded all the same.
func (in *instance) usage(r role, h half, a Algorithm, g guard) []attribute {
	list := r.usage(h, a, g)
	for _, name := range in.t.config.Accept {
		list = slices.DeleteFunc(list, func(at attribute) bool {
			return at.typ == acceptable[name] && (at.born || at.want == false)
		})
	}
	return list
}

// mechanisms returns all the mechanisms the key may be used with.
func (r role) mechanisms(a Algorithm) []uint {
	list := slices.Clone(algorithms[a].use)
	if r.derive {
		list = append(list, p11.CKM_ECDH1_DERIVE)
	}
	return list
}

// template is what the module is given; optional ones only when asked.
func template(list []attribute, optional bool, identity ...*p11.Attribute) []*p11.Attribute {
	out := slices.Clone(identity)
	for _, a := range list {
		if !a.born && (optional || !a.optional) {
			out = append(out, p11.NewAttribute(a.typ, a.want))
		}
	}
	return out
}

// What compare demands of an object.
type strictness uint8

const (
	standing     strictness = iota // an indexed key: usage bits and guards
	newborn                        // a key just made: also how it came to be
	newbornWhole                   // and the optional lines, which the module took
	restored                       // from a backup: the optional lines, but not how it came to be
	twin                           // a session copy: as standing, but no token object
)

// compare reads back what the role demands. The first result tells how the
// object differs, the second that it could not be read.
func (in *instance) compare(s p11.SessionHandle, o *object, how strictness) (mismatch, err error) {
	h := halfPrivate
	switch o.class {
	case p11.CKO_PUBLIC_KEY:
		h = halfPublic
	case p11.CKO_SECRET_KEY:
		h = halfSecret
	}
	r := roles[o.ref.Role]
	g := in.guardOf(r)
	list := slices.DeleteFunc(in.usage(r, h, o.algorithm, g), func(a attribute) bool {
		old := how == standing || how == twin
		switch a.typ {
		case p11.CKA_MODIFIABLE:
			// Keys made before copies were allowed stay good.
			return old && g.copyable && h != halfPublic
		case p11.CKA_TOKEN:
			return how == twin
		}
		return a.optional && how != newbornWhole && how != restored || a.born && (old || how == restored)
	})
	types := make([]uint, len(list))
	for i, a := range list {
		types[i] = a.typ
	}
	got, err := in.attributes(s, o.handle, types...)
	if err != nil {
		return nil, err
	}
	for i, a := range list {
		if want := p11.NewAttribute(a.typ, a.want).Value; !bytes.Equal(got[i], want) {
			return fmt.Errorf("%w: %s: attribute 0x%x is %x, must be %x", ErrTemplate, o.ref, a.typ, got[i], want), nil
		}
	}
	return nil, nil
}

// ulongs encodes an array of CK_ULONG.
func ulongs(list []uint) []byte {
	var b []byte
	for _, v := range list {
		b = binary.NativeEndian.AppendUint64(b, uint64(v))
	}
	return b
}
