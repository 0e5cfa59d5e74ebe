package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"
	"google.golang.org/grpc"

	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/internal/load"
	"github.com/signet-hsm/signet/signature"
)

const loadURI = "/signet/load"

var loadBody = []byte(`{"amount":"100.00","currency":"CZK","to":"238400856/0300"}`)

func contains(list []string, s string) bool { return slices.Contains(list, s) }

func randomName() string { return strings.ToLower(rand.Text()[:16]) }

// loadCaller goes through its own phones and through the mix, in turn.
type loadCaller struct {
	site        *loadSite
	conn        *grpc.ClientConn // nil over REST
	phones      loadFleet
	kinds       []string
	turn        int
	login       string
	csr         []byte // of a key that every certificate of the caller is for
	certificate []byte // SubjectPublicKeyInfo of that key
}

func (s *loadSite) callers(fleet loadFleet, o loadOptions, kinds []string) ([]load.Caller, error) {
	callers := make([]load.Caller, o.concurrency)
	for i := range callers {
		c := &loadCaller{site: s, kinds: kinds, turn: i, login: basicLogin(s.get("SIGNET_PA_APP"))}
		for j := i; j < len(fleet); j += o.concurrency {
			c.phones = append(c.phones, fleet[j])
		}
		if len(s.conns) > 0 {
			c.conn = s.conns[i%len(s.conns)]
		}
		if contains(kinds, "issue") {
			if err := c.makeRequest(); err != nil {
				return nil, err
			}
		}
		callers[i] = c.next
	}
	return callers, nil
}

func (c *loadCaller) makeRequest() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if c.csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key); err != nil {
		return err
	}
	c.certificate, err = x509.MarshalPKIXPublicKey(key.Public())
	return err
}

// next prepares a call: what the phone does, and for an offline code what comes
// before it, is not measured.
func (c *loadCaller) next(ctx context.Context) (load.Call, error) {
	c.turn++
	p := c.phones[c.turn%len(c.phones)]
	kind := c.kinds[c.turn%len(c.kinds)]
	do, err := map[string]func(context.Context, *simPhone) (func(context.Context) error, error){
		"verify": c.verify, "token": c.token, "otp": c.otp, "issue": c.issue,
	}[kind](ctx, p)
	if err != nil {
		return load.Call{}, fmt.Errorf("%s: %w", kind, err)
	}
	return load.Call{Kind: kind, Do: do}, nil
}

// verdict is what all three verifications answer.
type verdict struct {
	SignatureValid, TokenValid, OTPValid bool
	RegistrationID, RegistrationStatus   string
}

// right holds a verdict against what is true: the phone's own doing is valid.
func (p *simPhone) right(valid bool, registration string) error {
	if valid && strings.EqualFold(registration, p.device.ActivationID()) {
		return nil
	}
	return fmt.Errorf("%w: valid is %t", load.ErrWrong, valid)
}

func (c *loadCaller) verify(_ context.Context, p *simPhone) (func(context.Context) error, error) {
	// What was turned away at the door was not looked at, so it is sent again: a phone
	// that signed anew each time would soon be beyond the look-ahead.
	header := p.turnedAway
	if header == "" {
		var err error
		if header, err = p.device.Sign("POST", loadURI, loadBody, signature.PossessionKnowledge); err != nil {
			return nil, err
		}
	}
	ask := c.verifying(p, header)
	return func(ctx context.Context) error {
		err := ask(ctx)
		p.turnedAway = ""
		if errors.Is(err, errTurnedAway) {
			p.turnedAway = header
		}
		return err
	}, nil
}

func (c *loadCaller) verifying(p *simPhone, header string) func(context.Context) error {
	if c.conn == nil {
		body := verifyBody{"POST", loadURI, header, base64Text(loadBody)}
		return func(ctx context.Context) error {
			var v verdict
			if err := c.site.call(ctx, c.login, "POST", "/v2/signature/verify", body, &v); err != nil {
				return err
			}
			return p.right(v.SignatureValid, v.RegistrationID)
		}
	}
	req := &signetv1.VerifySignatureRequest{Check: &signetv1.SignatureCheck{Method: "POST", UriId: loadURI, AuthHeader: header, Body: loadBody}}
	return func(ctx context.Context) error {
		r, err := signetv1.NewSignatureServiceClient(c.conn).VerifySignature(outgoing(ctx, c.login), req)
		if err != nil {
			return notNow(err)
		}
		return p.right(r.GetVerdict().GetValid(), r.GetVerdict().GetRegistrationId())
	}
}

func (c *loadCaller) token(ctx context.Context, p *simPhone) (func(context.Context) error, error) {
	held, err := p.token(ctx, p.device)
	if err != nil {
		return nil, err
	}
	header, err := p.device.TokenHeader(held)
	if err != nil {
		return nil, err
	}
	if c.conn == nil {
		return func(ctx context.Context) error {
			var v verdict
			if err := c.site.call(ctx, c.login, "POST", "/v2/token/verify", map[string]string{"authHeader": header}, &v); err != nil {
				return err
			}
			return p.right(v.TokenValid, v.RegistrationID)
		}, nil
	}
	req := &signetv1.VerifyTokenRequest{Check: &signetv1.TokenCheck{AuthHeader: header}}
	return func(ctx context.Context) error {
		r, err := signetv1.NewTokenServiceClient(c.conn).VerifyToken(outgoing(ctx, c.login), req)
		if err != nil {
			return notNow(err)
		}
		return p.right(r.GetVerdict().GetValid(), r.GetVerdict().GetRegistrationId())
	}, nil
}

// otp makes an operation, takes its code to the phone, and measures the judgement of
// what the phone shows.
func (c *loadCaller) otp(ctx context.Context, p *simPhone) (func(context.Context) error, error) {
	var op struct{ OperationID string }
	id := p.device.ActivationID()
	if p.User == "" {
		return nil, errors.New("the file of the phone does not say whose it is")
	}
	if err := c.site.call(ctx, c.login, "POST", "/v2/operations", map[string]any{
		"userId": p.User, "template": loadTemplate, "parameters": map[string]string{"amount": "100.00"},
	}, &op); err != nil {
		return nil, err
	}
	var code struct{ OperationQRCodeData, Nonce string }
	path := "/v2/operations/" + op.OperationID + "/offline/qr?" + url.Values{"registrationId": {id}}.Encode()
	if err := c.site.call(ctx, c.login, "GET", path, nil, &code); err != nil {
		return nil, err
	}
	scanned, err := p.device.ScanOffline(code.OperationQRCodeData)
	if err != nil {
		return nil, err
	}
	otp, err := p.device.SignOffline(scanned.Offline, signature.PossessionKnowledge)
	if err != nil {
		return nil, err
	}
	if c.conn == nil {
		body := map[string]string{"otp": otp, "nonce": code.Nonce, "registrationId": id}
		return func(ctx context.Context) error {
			var v verdict
			if err := c.site.call(ctx, c.login, "POST", "/v2/operations/"+op.OperationID+"/offline/otp", body, &v); err != nil {
				return err
			}
			return p.right(v.OTPValid, v.RegistrationID)
		}, nil
	}
	req := &signetv1.VerifyOfflineOtpRequest{Check: &signetv1.OtpCheck{OperationId: op.OperationID, Otp: otp, Nonce: code.Nonce, RegistrationId: id}}
	return func(ctx context.Context) error {
		r, err := signetv1.NewOperationServiceClient(c.conn).VerifyOfflineOtp(outgoing(ctx, c.login), req)
		if err != nil {
			return notNow(err)
		}
		return p.right(r.GetVerdict().GetValid(), r.GetVerdict().GetRegistrationId())
	}, nil
}

func (c *loadCaller) issue(context.Context, *simPhone) (func(context.Context) error, error) {
	token := bearerToken(c.site.get("SIGNET_TOKEN_ADMIN_WRITE"))
	client := ulid.Make().String()
	right := func(der []byte) error {
		if !bytes.Contains(der, c.certificate) {
			return fmt.Errorf("%w: a certificate of another key", load.ErrWrong)
		}
		return nil
	}
	if c.conn == nil {
		path := "/v1/tenants/" + url.PathEscape(c.site.get("SIGNET_TENANT")) + "/certificates/admin"
		body := map[string]string{"csr": base64Text(c.csr), "user": "signet-load", "client": client}
		return func(ctx context.Context) error {
			var r struct{ Certificate string }
			if err := c.site.call(ctx, token, "POST", path, body, &r); err != nil {
				return err
			}
			der, err := base64.StdEncoding.DecodeString(r.Certificate)
			if err != nil {
				return err
			}
			return right(der)
		}, nil
	}
	req := &signetv1.IssueCertificateRequest{Order: &signetv1.CertificateOrder{Csr: c.csr, User: "signet-load", Client: client}}
	return func(ctx context.Context) error {
		r, err := signetv1.NewCertificateServiceClient(c.conn).IssueCertificate(outgoing(ctx, token), req)
		if err != nil {
			return notNow(err)
		}
		return right(r.GetIssued().GetCertificate())
	}, nil
}
