package audit

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/tenant"
)

// Checkpoint is the state of a chain that the HSM has signed.
type Checkpoint struct {
	Tenant    tenant.ID
	Number    int64     // from 1, without gaps
	Seq       int64     // the last event it covers
	Hash      [32]byte  // of the chain at Seq
	Mark      uuid.UUID // every event with a smaller id is at Seq or below
	At        time.Time
	Previous  [32]byte // SHA-256 of the text of the checkpoint before; zeros in the first
	Key       string   // label of the signing key
	Signature []byte   // ECDSA P-256 with SHA-256 over Text, ASN.1 DER
}

// Text is what is signed: lines of text, so that it can be checked with no more
// than openssl dgst -sha256 -verify.
func (c Checkpoint) Text() []byte {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, "signet audit checkpoint v1\ntenant %s\nnumber %d\nseq %d\nhash %s\nmark %s\nat %s\nprevious %s\nkey %s\n",
		c.Tenant, c.Number, c.Seq, b64(c.Hash[:]), c.Mark, c.At.UTC().Format(time.RFC3339Nano), b64(c.Previous[:]), c.Key)
}

// verify checks the signature against the key that the HSM has under the label.
// A label of any other kind of key is refused: a signature made for another
// purpose is none.
func (c Checkpoint) verify(ctx context.Context, keys Keys) (bool, error) {
	ref, err := hsm.ParseRef(c.Key)
	if err != nil || ref.Role != hsm.RoleAudit || ref.Tenant != tenant.System.String() {
		return false, nil
	}
	s, err := keys.Signer(ctx, ref)
	if errors.Is(err, hsm.ErrKeyNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	public, ok := s.Public().(*ecdsa.PublicKey)
	if !ok {
		return false, nil
	}
	sum := sha256.Sum256(c.Text())
	return ecdsa.VerifyASN1(public, sum[:], c.Signature), nil
}

func (c *Checkpoint) sign(ctx context.Context, s *hsm.Signer) (err error) {
	sum := sha256.Sum256(c.Text())
	c.Signature, err = s.SignContext(ctx, sum[:], crypto.SHA256)
	return err
}

// follows reports whether c can stand directly after prev, which may be the zero
// value.
func (c Checkpoint) follows(prev Checkpoint) bool {
	var want digest
	if prev.Number > 0 {
		want = sha256.Sum256(prev.Text())
	}
	return c.Number == prev.Number+1 && c.Previous == want && c.Seq > prev.Seq &&
		bytes.Compare(c.Mark[:], prev.Mark[:]) >= 0
}

// Keys finds the signing keys; *hsm.Token.
type Keys interface {
	Signer(ctx context.Context, ref hsm.Ref) (*hsm.Signer, error)
}

// KeyRef is the first generation of the installation's audit key.
func KeyRef() hsm.Ref {
	return hsm.Ref{Tenant: tenant.System.String(), Role: hsm.RoleAudit, Name: "audit"}
}
