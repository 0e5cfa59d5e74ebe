package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"math/big"

	"github.com/go-json-experiment/json"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// StatementType is what a statement is about; it is the typ of its JWS, so that
// none can be taken for another.
type StatementType string

// SDKConfig is the configuration of a tenant's apps (CA-14).
const SDKConfig StatementType = "sdk-config+jwt"

const maxClaims = 1 << 20 // bytes

// statementActions are the names of the types in the audit trail.
var statementActions = map[StatementType]string{SDKConfig: "sdkconfig.sign"}

// The event is stored while the signer is ACTIVE with the certificate that is in
// the statement, or not at all. stated_at keeps it from being deleted; the lock
// makes a deletion wait for this statement, and this one for a deletion.
var sqlStatementSigned = `with signer as (
  update ca_signer set stated_at = $4 where tenant_id = $1 and id = $2 and state = 'ACTIVE' and serial = $3 returning id) ` + audit.After("signer", 5)

// Statement is what a tenant's ACTIVE signer signs beside certificates.
type Statement struct {
	Type   StatementType
	Claims []byte         // a JSON object, at most 1 MiB
	Actor  string         // who asks, for the audit trail
	Detail map[string]any // of the audit event; signer, alg and sha256 of the answer are added
}

// SignWithCurrent signs a statement with the tenant's ACTIVE signer and returns it
// as a compact JWS. The header is made here: alg by the signer's key (ES256,
// ES384, RS256, EdDSA), kid the signer's id, typ the statement's type, x5c the
// chain from the signer to the root. So a caller chooses claims and nothing else,
// and what the key signs begins with "eyJ", which no certificate does.
//
// The JWS is answered only after its audit event was stored, on the condition that
// the signer still was ACTIVE with this certificate then. Errors: ErrRequest, ErrNoSigner,
// issuance.ErrIssuerExpired, ErrOtherIssuer, ErrBusy, fault.ErrUnavailable.
func (a *Authority) SignWithCurrent(ctx context.Context, t tenant.ID, s Statement) (string, error) {
	if err := s.validate(); err != nil {
		return "", err
	}
	for n := range maxIntents {
		l, err := a.currentLine(ctx, t)
		if err != nil {
			return "", err
		}
		if c, now := l.authority.Certificate(), a.now(); now.Before(c.NotBefore) || a.lastSecond().After(c.NotAfter) {
			if n == 0 {
				a.forget(l) // another node may have renewed the signer
				continue
			}
			return "", fmt.Errorf("ca: signer %s: %w", l.id, issuance.ErrIssuerExpired)
		}
		jws, alg, err := signStatement(ctx, l, s)
		if err != nil {
			return "", err
		}
		stored, err := a.recordStatement(ctx, l, s, jws, alg)
		if err != nil {
			return "", err
		}
		if stored {
			return jws, nil
		}
		a.forget(l)
	}
	return "", fmt.Errorf("ca: %w", ErrBusy)
}

func (s *Statement) validate() error {
	var v []fault.Violation
	if statementActions[s.Type] == "" {
		v = append(v, fault.Violation{Field: "type", Hint: "must be a known type of statement"})
	}
	var object map[string]any
	switch {
	case len(s.Claims) > maxClaims:
		v = append(v, fault.Violation{Field: "claims", Hint: "must have at most 1 MiB"})
	case json.Unmarshal(s.Claims, &object) != nil || object == nil:
		v = append(v, fault.Violation{Field: "claims", Hint: "must be a JSON object"})
	}
	if v != nil {
		return ErrRequest.With(v...)
	}
	return nil
}

// recordStatement appends the audit event, unless the signer is ACTIVE no more or
// was renewed.
func (a *Authority) recordStatement(ctx context.Context, l *line, s Statement, jws, alg string) (bool, error) {
	sum := sha256.Sum256([]byte(jws))
	detail := map[string]any{"alg": alg, "sha256": hex.EncodeToString(sum[:])}
	maps.Copy(detail, s.Detail)
	now := a.wallTime()
	event, err := a.audit.Args(audit.Event{
		Tenant: l.tenant, At: now, Action: statementActions[s.Type], Actor: s.Actor, Subject: l.id, Outcome: "ok", Detail: detail,
	})
	if err != nil {
		return false, fmt.Errorf("ca: %w: %w", ErrRecord, err)
	}
	tag, err := a.db.Exec(ctx, sqlStatementSigned, append([]any{l.tenant.String(), l.id, l.serial, now}, event...)...)
	if err != nil {
		return false, fmt.Errorf("ca: record statement: %w", pg.Unavailable(err))
	}
	return tag.RowsAffected() == 1, nil
}

// signStatement makes the JWS (RFC 7515, RFC 7518, RFC 8037) and verifies it.
func signStatement(ctx context.Context, l *line, s Statement) (jws, alg string, err error) {
	algorithm, ok := jwsAlgorithmOf(l.key.Public())
	if !ok {
		return "", "", fmt.Errorf("ca: signer %s: %w: no JWS algorithm", l.id, ErrKey)
	}
	header := struct {
		Algorithm string        `json:"alg"`
		Key       string        `json:"kid"`
		Type      StatementType `json:"typ"`
		Chain     [][]byte      `json:"x5c"` // base64 with padding, unlike all else in a JWS
	}{algorithm.name, l.id, s.Type, l.chain}
	protected, err := json.Marshal(header)
	if err != nil {
		return "", "", fmt.Errorf("ca: %w: %w", ErrRecord, err)
	}
	b64 := base64.RawURLEncoding
	text := b64.AppendEncode(nil, protected)
	text = append(text, '.')
	text = b64.AppendEncode(text, s.Claims)
	digest := algorithm.digest(text)
	signature, err := l.key.SignContext(ctx, digest, algorithm.hash)
	if err != nil {
		return "", "", unusable("sign statement", err)
	}
	raw, ok := algorithm.verified(l.key.Public(), digest, signature)
	if !ok {
		return "", "", fmt.Errorf("ca: signer %s: %w: the HSM's signature is wrong", l.id, ErrKey)
	}
	text = append(text, '.')
	return string(b64.AppendEncode(text, raw)), algorithm.name, nil
}

// jwsAlgorithm is how a kind of key signs a JWS.
type jwsAlgorithm struct {
	name string
	hash crypto.Hash // 0: the message itself
	size int         // of each half of an ECDSA signature
}

func jwsAlgorithmOf(key crypto.PublicKey) (jwsAlgorithm, bool) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve.Params().BitSize {
		case 256:
			return jwsAlgorithm{"ES256", crypto.SHA256, 32}, true
		case 384:
			return jwsAlgorithm{"ES384", crypto.SHA384, 48}, true
		}
	case *rsa.PublicKey:
		return jwsAlgorithm{"RS256", crypto.SHA256, 0}, true
	case ed25519.PublicKey:
		return jwsAlgorithm{"EdDSA", 0, 0}, true
	}
	return jwsAlgorithm{}, false
}

func (a jwsAlgorithm) digest(text []byte) []byte {
	switch a.hash {
	case crypto.SHA256:
		sum := sha256.Sum256(text)
		return sum[:]
	case crypto.SHA384:
		sum := sha512.Sum384(text)
		return sum[:]
	}
	return text
}

// verified returns the signature as a JWS has it, if it is right.
func (a jwsAlgorithm) verified(key crypto.PublicKey, digest, signature []byte) ([]byte, bool) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		var r, s big.Int
		var inner cryptobyte.String
		der := cryptobyte.String(signature)
		if !ecdsa.VerifyASN1(k, digest, signature) || !der.ReadASN1(&inner, asn1.SEQUENCE) || !inner.ReadASN1Integer(&r) || !inner.ReadASN1Integer(&s) {
			return nil, false
		}
		raw := make([]byte, 2*a.size)
		r.FillBytes(raw[:a.size])
		s.FillBytes(raw[a.size:])
		return raw, true
	case *rsa.PublicKey:
		return signature, rsa.VerifyPKCS1v15(k, a.hash, digest, signature) == nil
	case ed25519.PublicKey:
		return signature, ed25519.Verify(k, digest, signature)
	}
	return nil, false
}
