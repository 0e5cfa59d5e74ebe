package lint

import (
	"bytes"
	"crypto/x509"
	"strings"
	"time"

	"github.com/signet-hsm/signet/ca/issuance"
)

// maxMoulds bounds the memory: a mould has about 1 KiB.
const maxMoulds = 4096

// mouldKey is what two certificates must share to be cast from one mould. The
// addresses are part of it: with sharded CRLs a signer has one mould a shard.
type mouldKey struct {
	stencil *issuance.Stencil // stands for the next three
	profile *issuance.Template
	issuer  *issuance.Authority
	where   string
	kind    string // AlgorithmIdentifier of the subject's key
	size    int    // and its length
}

func keyOf(c *issuance.Candidate, t *tbs) mouldKey {
	k := mouldKey{stencil: c.Stencil(), kind: string(t.spkiAlgorithm), size: len(t.spki)}
	if k.stencil != nil {
		return k
	}
	l := c.Locations()
	var b strings.Builder
	for _, list := range [...][]string{l.CRL, l.OCSP, l.Issuer} {
		for _, s := range list {
			b.WriteString(s)
			b.WriteByte(' ')
		}
		b.WriteByte('|')
	}
	k.profile, k.issuer, k.where = c.Profile(), c.Issuer(), b.String()
	return k
}

// mould is a certificate that passed every rule, with holes where the next one
// may differ: serial, dates, subject, key, key identifier. A rule can only be
// broken by what is in a hole, and what may be there is checked for itself.
type mould struct {
	profile  issuance.Profile
	issuer   *x509.Certificate
	fixed    [3][]byte // version, algorithm, issuer
	spki     []byte    // AlgorithmIdentifier of the key
	spkiSize int
	before   []byte // extensions up to the key identifier
	after    []byte
}

// newMould casts a draft; nil when the key identifier does not stand in it just
// once, as with an issuer that certifies its own key.
func newMould(c *issuance.Candidate, t *tbs) *mould {
	i := bytes.Index(t.extensions, t.keyID[:])
	if i < 0 || bytes.Count(t.extensions, t.keyID[:]) != 1 {
		return nil
	}
	return &mould{
		profile: c.Profile().Profile(), issuer: c.Issuer().Certificate(),
		fixed: [3][]byte{t.version, t.algorithm, t.issuer}, spki: t.spkiAlgorithm, spkiSize: len(t.spki),
		before: t.extensions[:i], after: t.extensions[i+len(t.keyID):],
	}
}

// check judges a draft by the mould. The key itself was judged by the engine
// (issuance.CheckKey) when its request was read.
func (m *mould) check(t *tbs) error {
	var o ours
	for i, part := range [3][]byte{t.version, t.algorithm, t.issuer} {
		o.expect(bytes.Equal(part, m.fixed[i]), "mould", "%s differs", [...]string{"version", "algorithm", "issuer"}[i])
	}
	o.expect(bytes.Equal(t.spkiAlgorithm, m.spki) && len(t.spki) == m.spkiSize, "mould", "kind of key differs")
	o.expect(serialOK(t.serial), "serial", "must be 16 bytes, positive, the first not zero: %x", t.serial)
	o.expect(spanOK(t, m.issuer, &m.profile), "profile_validity", "%s to %s", t.notBefore.Format(time.RFC3339), t.notAfter.Format(time.RFC3339))
	o.expect(!t.notBefore.Before(m.issuer.NotBefore) && !t.notAfter.After(m.issuer.NotAfter), "nested_validity", "must lie within the issuer's")
	o.expect(subjectOK(t.subject, &m.profile.Subject), "profile_subject", "does not fit the policy")
	rest, ok := bytes.CutPrefix(t.extensions, m.before)
	if ok {
		rest, ok = bytes.CutPrefix(rest, t.keyID[:])
	}
	o.expect(ok && bytes.Equal(rest, m.after), "mould", "extensions differ")
	return Err(o.found)
}
