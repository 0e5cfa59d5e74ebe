package hsm

import (
	"crypto"
	"encoding/binary"
	"fmt"

	p11 "github.com/miekg/pkcs11"
)

// object is one PKCS#11 object with a label of ours.
type object struct {
	handle    p11.ObjectHandle
	class     uint
	ref       Ref
	id        [16]byte
	algorithm Algorithm        // "" for private keys: their public half tells
	public    crypto.PublicKey // public keys only
	copyable  bool             // a session copy may be tried
	bad       error            // why it can not be used
}

// findBatch is how many handles one C_FindObjects call asks for.
const findBatch = 1000

// find returns the handles of the token objects that match (not of session copies,
// which have the label of their original). On an error the session is left in a
// search; the caller drops it. A search without a login finds public objects only
// and says nothing about it, so a result counts only in a session that is still
// logged in afterwards: an outage must not look like a missing key.
func (in *instance) find(s p11.SessionHandle, template []*p11.Attribute) ([]p11.ObjectHandle, error) {
	c := in.mod.ctx
	template = append([]*p11.Attribute{p11.NewAttribute(p11.CKA_TOKEN, true)}, template...)
	if err := c.FindObjectsInit(s, template); err != nil {
		return nil, err
	}
	var all []p11.ObjectHandle
	for {
		batch, _, err := c.FindObjects(s, findBatch)
		if err != nil {
			return nil, err
		}
		all = append(all, batch...)
		if len(batch) == 0 {
			if err := c.FindObjectsFinal(s); err != nil {
				return nil, err
			}
			return all, in.loggedIn(s)
		}
	}
}

// objects returns our keys among the objects that match the template.
func (in *instance) objects(s p11.SessionHandle, template []*p11.Attribute) ([]object, error) {
	handles, err := in.find(s, template)
	if err != nil {
		return nil, err
	}
	found := make([]object, 0, len(handles))
	for _, h := range handles {
		o, err := in.read(s, h)
		if err != nil {
			return nil, err
		}
		if o != nil {
			found = append(found, *o)
		}
	}
	return found, nil
}

// read describes one object; nil when it is not a key of ours. An object that
// vanished since the search (another node destroyed it) is not an error, nor is
// one without class or type, which a process that is killed while SoftHSM writes a
// file leaves behind: one such file must not keep every node from starting. After
// these errors only is a session used on: reading starts no operation.
func (in *instance) read(s p11.SessionHandle, h p11.ObjectHandle) (*object, error) {
	head, err := in.attributes(s, h, p11.CKA_CLASS, p11.CKA_LABEL)
	if err != nil {
		switch err {
		case p11.Error(p11.CKR_OBJECT_HANDLE_INVALID), p11.Error(p11.CKR_ATTRIBUTE_TYPE_INVALID), p11.Error(p11.CKR_ATTRIBUTE_VALUE_INVALID):
			return nil, in.loggedIn(s)
		}
		return nil, err
	}
	class, ok := ulong(head[0])
	ref, err := ParseRef(string(head[1]))
	if !ok || err != nil || (class != p11.CKO_PRIVATE_KEY && class != p11.CKO_PUBLIC_KEY && class != p11.CKO_SECRET_KEY) {
		return nil, nil
	}
	o := &object{handle: h, class: class, ref: ref}
	body, err := in.attributes(s, h, p11.CKA_ID, p11.CKA_KEY_TYPE)
	if err != nil {
		return nil, err
	}
	if len(body[0]) != len(o.id) {
		o.bad = fmt.Errorf("%w: %s: id of %d bytes", ErrTemplate, ref, len(body[0]))
		return o, nil
	}
	copy(o.id[:], body[0])
	kind, _ := ulong(body[1])
	switch class {
	case p11.CKO_PUBLIC_KEY:
		if o.public, o.algorithm, err = in.public(s, h, kind); err != nil {
			if isReturnValue(err) {
				return nil, err
			}
			o.bad = err
			return o, nil
		}
	case p11.CKO_SECRET_KEY:
		o.algorithm = secretAlgorithm(kind)
	}
	if o.bad, err = in.compare(s, o, standing); err != nil {
		return nil, err
	}
	if class != p11.CKO_PUBLIC_KEY && o.bad == nil && in.t.config.SessionCopies && roles[ref.Role].copies {
		o.copyable, err = in.copyable(s, h)
	}
	return o, err
}

// copyable reads CKA_COPYABLE, which is true by default and unknown to some modules.
func (in *instance) copyable(s p11.SessionHandle, h p11.ObjectHandle) (bool, error) {
	v, err := in.attributes(s, h, p11.CKA_COPYABLE)
	if err == p11.Error(p11.CKR_ATTRIBUTE_TYPE_INVALID) {
		return true, nil // starts no operation, as in read
	}
	return err == nil && len(v[0]) == 1 && v[0][0] == 1, err
}

// loggedIn returns USER_NOT_LOGGED_IN when the login is gone.
func (in *instance) loggedIn(s p11.SessionHandle) error {
	info, err := in.mod.ctx.GetSessionInfo(s)
	if err != nil {
		return err
	}
	if info.State != p11.CKS_RO_USER_FUNCTIONS && info.State != p11.CKS_RW_USER_FUNCTIONS {
		return p11.Error(p11.CKR_USER_NOT_LOGGED_IN)
	}
	return nil
}

// attributes reads values in the order asked.
func (in *instance) attributes(s p11.SessionHandle, h p11.ObjectHandle, types ...uint) ([][]byte, error) {
	ask := make([]*p11.Attribute, len(types))
	for i, typ := range types {
		ask[i] = p11.NewAttribute(typ, nil)
	}
	got, err := in.mod.ctx.GetAttributeValue(s, h, ask)
	if err != nil {
		return nil, err
	}
	values := make([][]byte, len(got))
	for i, a := range got {
		values[i] = a.Value
	}
	return values, nil
}

// ulong decodes a CK_ULONG, which has the machine's size and order.
func ulong(b []byte) (uint, bool) {
	switch len(b) {
	case 8:
		return uint(binary.NativeEndian.Uint64(b)), true
	case 4:
		return uint(binary.NativeEndian.Uint32(b)), true
	}
	return 0, false
}

func secretAlgorithm(kind uint) Algorithm {
	switch kind {
	case p11.CKK_AES:
		return AES256
	case p11.CKK_GENERIC_SECRET, p11.CKK_SHA256_HMAC:
		return HMACSHA256
	}
	return ""
}

// samePublic compares public keys; two nils (secret keys) are equal.
func samePublic(a, b crypto.PublicKey) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	type equaler interface{ Equal(crypto.PublicKey) bool }
	e, ok := a.(equaler)
	return ok && e.Equal(b)
}
