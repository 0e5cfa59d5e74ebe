package hsm

import (
	"fmt"
	"log/slog"

	p11 "github.com/miekg/pkcs11"
)

// maxCopies bounds the session copies of one lane; beyond it all are made anew.
const maxCopies = 256

// copyLife bounds, in nanoseconds, how long a copy is used without a look at its
// original: that long may a key that another node destroyed still sign here.
var copyLife int64 = 5e9

// sessionCopy is a key's twin in one session.
type sessionCopy struct {
	handle p11.ObjectHandle
	seen   int64 // when the original was last there
}

// copyOf returns the lane's session copy of a key, making it when there is none.
// SoftHSM opens, locks and reads two files for each use of a token object and
// none for a session object, which doubles the signatures. The copy must do what
// the role says and nothing else, as its original must.
//
// A module that makes no copies costs one attempt: the key is used as it is.
func (t *local) copyOf(l *lane, e *entry, at located) (p11.ObjectHandle, error) {
	if l.copied != at.epoch {
		clear(l.copies)
		l.copied = at.epoch
	}
	now := t.clock()
	if c, ok := l.copies[e]; ok {
		if now-c.seen < copyLife {
			return c.handle, nil
		}
		if _, err := l.inst.attributes(l.session, at.private, p11.CKA_CLASS); err != nil {
			return 0, err
		}
		c.seen = now
		l.copies[e] = c
		return c.handle, nil
	}
	if len(l.copies) >= maxCopies {
		t.drop(l)
		if err := t.connect(l); err != nil {
			return 0, err
		}
	}
	h, err := l.inst.mod.ctx.CopyObject(l.session, at.private, []*p11.Attribute{p11.NewAttribute(p11.CKA_TOKEN, false)})
	if c := classify(err); c == classRefused || c == classMissing {
		e.copyable.Store(false)
		t.log.Info("hsm: the module makes no session copy of this key", slog.String("label", e.info.Ref.String()), slog.Any("cause", err))
		t.drop(l)
		return at.private, t.connect(l)
	}
	if err != nil {
		return 0, err
	}
	o := &object{handle: h, class: p11.CKO_PRIVATE_KEY, ref: e.info.Ref, algorithm: e.info.Algorithm}
	if e.info.Public == nil {
		o.class = p11.CKO_SECRET_KEY
	}
	mismatch, err := l.inst.compare(l.session, o, twin)
	if err == nil && mismatch != nil {
		err = fmt.Errorf("session copy: %w", mismatch)
	}
	if err != nil {
		t.drop(l) // and the copy with it
		return 0, err
	}
	if l.copies == nil {
		l.copies = map[*entry]sessionCopy{}
	}
	l.copies[e] = sessionCopy{h, now}
	return h, nil
}
