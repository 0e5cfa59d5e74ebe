package hsm

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"github.com/signet-hsm/signet/internal/secret"
)

// Officer does at a token what belongs to a key ceremony and to no service: keys
// with a backup, PINs, and a look at every attribute. It exists only where the
// module is in this process: a service that talks to a module in another one can
// not reach any of it, whoever has taken the service over.
type Officer struct{ t *local }

// Officer returns the token's; ErrUnsupported when the module is in another process.
func (t *Token) Officer() (*Officer, error) {
	l, ok := t.engine.(*local)
	if !ok {
		return nil, fmt.Errorf("hsm: %w: a ceremony needs the module in its own process", ErrUnsupported)
	}
	return &Officer{l}, nil
}

// Object is what the token says of one object.
type Object struct {
	Class      string            `json:"class"` // private, public, secret, certificate, data or a number
	Label      string            `json:"label"`
	ID         string            `json:"id,omitempty"`  // hex
	Attributes map[string]string `json:"attributes"`    // CKA_ names; true, false or hex
	Ours       bool              `json:"ours"`          // its label is of our scheme
	Fault      string            `json:"bad,omitempty"` // why it may not be used
}

// named are the attributes that a transcript shows, beside label and id.
var named = []struct {
	name string
	typ  uint
}{
	{"CKA_TOKEN", p11.CKA_TOKEN},
	{"CKA_PRIVATE", p11.CKA_PRIVATE},
	{"CKA_SENSITIVE", p11.CKA_SENSITIVE},
	{"CKA_ALWAYS_SENSITIVE", p11.CKA_ALWAYS_SENSITIVE},
	{"CKA_EXTRACTABLE", p11.CKA_EXTRACTABLE},
	{"CKA_NEVER_EXTRACTABLE", p11.CKA_NEVER_EXTRACTABLE},
	{"CKA_LOCAL", p11.CKA_LOCAL},
	{"CKA_MODIFIABLE", p11.CKA_MODIFIABLE},
	{"CKA_COPYABLE", p11.CKA_COPYABLE},
	{"CKA_SIGN", p11.CKA_SIGN},
	{"CKA_SIGN_RECOVER", p11.CKA_SIGN_RECOVER},
	{"CKA_VERIFY", p11.CKA_VERIFY},
	{"CKA_VERIFY_RECOVER", p11.CKA_VERIFY_RECOVER},
	{"CKA_ENCRYPT", p11.CKA_ENCRYPT},
	{"CKA_DECRYPT", p11.CKA_DECRYPT},
	{"CKA_WRAP", p11.CKA_WRAP},
	{"CKA_UNWRAP", p11.CKA_UNWRAP},
	{"CKA_DERIVE", p11.CKA_DERIVE},
	{"CKA_ALWAYS_AUTHENTICATE", p11.CKA_ALWAYS_AUTHENTICATE},
	{"CKA_KEY_TYPE", p11.CKA_KEY_TYPE},
	{"CKA_ALLOWED_MECHANISMS", p11.CKA_ALLOWED_MECHANISMS},
}

var objectClasses = map[uint]string{
	p11.CKO_PRIVATE_KEY: "private", p11.CKO_PUBLIC_KEY: "public", p11.CKO_SECRET_KEY: "secret", p11.CKO_CERTIFICATE: "certificate", p11.CKO_DATA: "data",
}

// Attributes reads back the objects of one key, private or secret half first.
func (o *Officer) Attributes(ctx context.Context, ref Ref) ([]Object, error) {
	return o.read(ctx, p11.NewAttribute(p11.CKA_LABEL, ref.String()))
}

// Inventory reads every object of the token, of ours and of others.
func (o *Officer) Inventory(ctx context.Context) ([]Object, error) { return o.read(ctx) }

func (o *Officer) read(ctx context.Context, match ...*p11.Attribute) ([]Object, error) {
	_, v, err := o.t.do(ctx, &call{op: OpKeys, run: func(l *lane) (any, error) {
		handles, err := l.inst.find(l.session, match)
		if err != nil {
			return nil, err
		}
		list := make([]Object, 0, len(handles))
		for _, h := range handles {
			one, err := l.inst.object(l.session, h)
			if err != nil {
				return nil, err
			}
			if one.Class == "private" || one.Class == "secret" {
				list = append([]Object{one}, list...)
			} else {
				list = append(list, one)
			}
		}
		return list, nil
	}}, nil)
	if err != nil {
		return nil, err
	}
	return v.([]Object), nil
}

func (in *instance) object(s p11.SessionHandle, h p11.ObjectHandle) (Object, error) {
	out := Object{Attributes: map[string]string{}}
	// One attribute at a time: modules differ in which they know, and one that is
	// unknown spoils the answer for the others.
	one := func(typ uint) ([]byte, error) {
		v, err := in.attributes(s, h, typ)
		if err == p11.Error(p11.CKR_ATTRIBUTE_TYPE_INVALID) || err == p11.Error(p11.CKR_ATTRIBUTE_SENSITIVE) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return v[0], nil
	}
	class, err := one(p11.CKA_CLASS)
	if err != nil {
		return out, err
	}
	n, _ := ulong(class)
	if out.Class = objectClasses[n]; out.Class == "" {
		out.Class = fmt.Sprintf("0x%x", n)
	}
	label, err := one(p11.CKA_LABEL)
	if err != nil {
		return out, err
	}
	out.Label = strings.ToValidUTF8(string(label), "?")
	_, notOurs := ParseRef(out.Label)
	out.Ours = notOurs == nil
	id, err := one(p11.CKA_ID)
	if err != nil {
		return out, err
	}
	out.ID = hex.EncodeToString(id)
	for _, a := range named {
		v, err := one(a.typ)
		switch {
		case err != nil:
			return out, err
		case len(v) == 1:
			out.Attributes[a.name] = fmt.Sprint(v[0] != 0)
		case len(v) > 0:
			out.Attributes[a.name] = hex.EncodeToString(v)
		}
	}
	if found, err := in.read(s, h); err != nil {
		return out, err
	} else if found != nil && found.bad != nil {
		out.Fault = found.bad.Error()
	}
	return out, nil
}

// Condition is what a token says of its PINs and its room.
type Condition struct {
	UserPIN, SOPIN string // good, low, final try, locked, to be changed
	Login          bool   // a PIN is needed at all
	Free           string // private memory in bytes, or unknown
}

// Condition reads it. A locked or nearly locked PIN is a reason not to begin.
func (o *Officer) Condition(ctx context.Context) (Condition, error) {
	_, v, err := o.t.do(ctx, &call{op: OpInfo, run: func(l *lane) (any, error) {
		i, err := l.inst.mod.ctx.GetTokenInfo(l.inst.slot.id)
		if err != nil {
			return nil, err
		}
		var c Condition
		state := func(locked, final, low, change uint) string {
			for _, f := range []struct {
				flag uint
				name string
			}{{locked, "locked"}, {final, "final try"}, {low, "low"}, {change, "to be changed"}} {
				if i.Flags&f.flag != 0 {
					return f.name
				}
			}
			return "good"
		}
		c.UserPIN = state(p11.CKF_USER_PIN_LOCKED, p11.CKF_USER_PIN_FINAL_TRY, p11.CKF_USER_PIN_COUNT_LOW, p11.CKF_USER_PIN_TO_BE_CHANGED)
		c.SOPIN = state(p11.CKF_SO_PIN_LOCKED, p11.CKF_SO_PIN_FINAL_TRY, p11.CKF_SO_PIN_COUNT_LOW, p11.CKF_SO_PIN_TO_BE_CHANGED)
		c.Login, c.Free = i.Flags&p11.CKF_LOGIN_REQUIRED != 0, "unknown"
		if free := i.FreePrivateMemory; free != ^uint(0) {
			c.Free = fmt.Sprint(free)
		}
		return c, nil
	}}, nil)
	if err != nil {
		return Condition{}, err
	}
	return v.(Condition), nil
}

// ChangePIN replaces the user's PIN by one that is known only to the caller yet. A
// wrong old PIN is ErrPIN and was tried once.
func (o *Officer) ChangePIN(ctx context.Context, old, fresh secret.Bytes) error {
	_, err := o.t.write(ctx, "change the PIN", func(l *lane, s p11.SessionHandle) (any, error) {
		return nil, pinResult(l.inst.mod.ctx.SetPIN(s, text(old), text(fresh)))
	})
	return err
}

// pinResult names a refused PIN.
func pinResult(err error) error {
	if classify(err) == classPIN {
		return fmt.Errorf("%w: %w", ErrPIN, err)
	}
	return err
}

// ResetConfig says whose PIN the security officer sets.
type ResetConfig struct {
	Module        string
	Env           map[string]string
	InitArgs      string
	Label, Serial string
	SOPIN         secret.Bytes
	PIN           secret.Bytes // the user's new one; empty: it stays
	NewSOPIN      secret.Bytes // the security officer's new one; empty: it stays
}

// ResetPIN logs in as security officer and sets PINs. No session of this process
// may be open at the token: the two logins exclude each other. One attempt.
func ResetPIN(ctx context.Context, c ResetConfig) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	m, err := openModule(c.Module, c.Module, c.Env, c.InitArgs)
	if err != nil {
		return err
	}
	defer func() { _ = m.release() }()
	id, _, err := m.findToken(c.Label, c.Serial)
	if err != nil {
		return err
	}
	s, err := m.ctx.OpenSession(id, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		return wrap("open a session", err)
	}
	defer func() { _ = m.ctx.CloseSession(s) }()
	if err := pinResult(m.ctx.Login(s, p11.CKU_SO, text(c.SOPIN))); err != nil {
		return wrap("log in as security officer", err)
	}
	if c.PIN.Len() > 0 {
		if err := m.ctx.InitPIN(s, text(c.PIN)); err != nil {
			return wrap("set the PIN", err)
		}
	}
	if c.NewSOPIN.Len() > 0 {
		if err := pinResult(m.ctx.SetPIN(s, text(c.SOPIN), text(c.NewSOPIN))); err != nil {
			return wrap("change the security officer's PIN", err)
		}
	}
	return wrap("log out", m.ctx.Logout(s))
}
