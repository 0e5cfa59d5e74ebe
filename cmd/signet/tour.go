package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/signature"
)

const tourCallTimeout = 15 * time.Second

// errTour is the answer when a line was not good; the line itself was printed.
var errTour = errors.New("a line of the tour was not good")

// tour calls the running service as its users do, over loopback, and prints one
// line a call. It knows nothing but what dev.env says.
func (e *devEnv) tour(ctx context.Context, out io.Writer) error {
	conn, err := grpc.NewClient(e.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	t := &tour{devEnv: e, out: out, grpc: conn, http: &http.Client{Timeout: tourCallTimeout}}
	defer t.http.CloseIdleConnections()

	fmt.Fprintln(out, "\nThe tour: each line is a real call over loopback.")
	began, bad := time.Now(), 0
	for _, stop := range []struct {
		title string
		call  func(context.Context) (string, error)
	}{
		{"signer created in the HSM", t.createSigner},
		{"its chain verifies up to the root", t.signerChain},
		{"certificate issued from a PKCS#10 request, chain verified", t.issueCertificate},
		{"signer rotated while certificates are issued", t.rotateUnderTraffic},
		{"certificate revoked: OCSP and the CRL say so", t.revokeCertificate},
		{"SDK configuration signed by the HSM, verified", t.sdkConfig},
		{"registration created", t.createRegistration},
		{"keys exchanged with the device", t.activate},
		{"both sides show the same fingerprint", t.compareFingerprint},
		{"registration committed", t.commit},
		{"signature verified over REST", t.verifyREST},
		{"the same signature replayed: refused", t.replay},
		{"next signature verified over gRPC", t.verifyGRPC},
		{"token made by the phone, its digest verified", t.verifyToken},
		{"operation listed, shown and approved online", t.approveOnline},
		{"operation approved offline: QR code and OTP", t.approveOffline},
		{"pushes of both operations recorded", t.pushesRecorded}, // before the block: a blocked phone gets none
		{"registration blocked and unblocked", t.blockAndUnblock},
		{"five wrong signatures: refused, then BLOCKED", t.fiveWrong},
		{"a good signature after that: refused", t.refusedWhenBlocked},
		{"audit chain computed anew and compared with the HSM's signature", t.auditChain},
	} {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		callCtx, cancel := context.WithTimeout(ctx, tourCallTimeout)
		at := time.Now()
		detail, err := stop.call(callCtx)
		took := time.Since(at)
		cancel()
		mark := "good"
		if err != nil {
			mark, detail = "BAD ", err.Error()
			bad++
		}
		fmt.Fprintf(out, "  %s %8.1f ms  %-63s %s\n", mark, float64(took.Microseconds())/1000, stop.title, detail)
		if err != nil {
			break // what follows stands on it
		}
	}
	if bad > 0 {
		return errTour
	}
	fmt.Fprintf(out, "  every line good, %s\n", time.Since(began).Round(time.Millisecond))
	return nil
}

type tour struct {
	*devEnv
	out  io.Writer
	http *http.Client
	grpc *grpc.ClientConn

	issued       []byte // the device certificate, DER
	user         string
	registration string
	qr           string
	token        powerauth.Token
	operations   []string // ids
	device       *powerauth.Device
	replayed     verifyBody
}

// call sends JSON and decodes the answer into res; a status other than want is
// an error that shows the body.
func (t *tour) call(ctx context.Context, auth func(*http.Request), method, path string, want int, body, res any) error {
	var rd io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		rd = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, t.rest+path, rd)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	auth(req)
	resp, err := t.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != want {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(raw))
	}
	if res == nil {
		return nil
	}
	return json.Unmarshal(raw, res)
}

func (t *tour) bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func (t *tour) basic(r *http.Request) {
	user, password, _ := strings.Cut(t.paApp, ":")
	r.SetBasicAuth(user, password)
}

func (t *tour) createSigner(ctx context.Context) (string, error) {
	var s struct {
		ID         string `json:"id"`
		Generation int    `json:"generation"`
		State      string `json:"state"`
	}
	err := t.call(ctx, t.bearer(t.tokenWrite), "POST", "/v2/tenants/"+devTenant+"/signers", http.StatusCreated, map[string]any{"name": "tour"}, &s)
	if err == nil && s.State != "ACTIVE" {
		err = fmt.Errorf("state %s", s.State)
	}
	return fmt.Sprintf("generation %d, %s", s.Generation, s.State), err
}

func (t *tour) signerChain(ctx context.Context) (string, error) {
	var res struct{ Chain []string }
	if err := t.call(ctx, t.bearer(t.tokenRead), "GET", "/v2/tenants/"+devTenant+"/signers/current/chain", http.StatusOK, nil, &res); err != nil {
		return "", err
	}
	chain := make([][]byte, len(res.Chain))
	for i, c := range res.Chain {
		var err error
		if chain[i], err = base64.StdEncoding.DecodeString(c); err != nil {
			return "", err
		}
	}
	return t.verifyChain(chain)
}

// verifyChain checks DER certificates, leaf first, against the root in the data
// folder, which came there by the ceremony and not by the answer.
func (t *tour) verifyChain(chain [][]byte) (string, error) {
	if len(chain) < 2 {
		return "", fmt.Errorf("chain of %d", len(chain))
	}
	root, err := t.root()
	if err != nil {
		return "", err
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	certs := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		if certs[i], err = x509.ParseCertificate(der); err != nil {
			return "", err
		}
		if i > 0 {
			between.AddCert(certs[i])
		}
	}
	paths, err := certs[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return "", err
	}
	names := make([]string, len(paths[0]))
	for i, c := range paths[0] {
		names[i] = c.Subject.CommonName
	}
	return strings.Join(names, " < "), nil
}

func (t *tour) root() (*x509.Certificate, error) {
	raw, err := os.ReadFile(t.rootFile)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errors.New("the root file holds no PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

func (t *tour) issueCertificate(ctx context.Context) (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "tour device"},
	}, key)
	if err != nil {
		return "", err
	}
	res, err := signetv1.NewCertificateServiceClient(t.grpc).IssueCertificate(
		metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+t.tokenWrite),
		&signetv1.IssueCertificateRequest{Order: &signetv1.CertificateOrder{Csr: csr, User: "tour", Client: ulid.Make().String()}})
	if err != nil {
		return "", err
	}
	issued := res.GetIssued()
	t.issued = issued.GetCertificate()
	return t.verifyChain(append([][]byte{issued.GetCertificate()}, issued.GetChain()...))
}

func (t *tour) createRegistration(ctx context.Context) (string, error) {
	var res struct{ RegistrationID, ActivationQRCodeData string }
	t.user = "tour-" + rand.Text()[:8]
	err := t.call(ctx, t.basic, "POST", "/v2/registrations", http.StatusOK,
		map[string]any{"userId": t.user, "appId": devApp}, &res)
	t.registration, t.qr = res.RegistrationID, res.ActivationQRCodeData
	code, _, _ := strings.Cut(t.qr, "#")
	return "activation code " + code, err
}

func (t *tour) activate(ctx context.Context) (string, error) {
	var err error
	t.device, err = powerauth.New(powerauth.Config{
		BaseURL:           t.rest,
		ApplicationKey:    base64Text(t.appKey[:]),
		ApplicationSecret: string(t.appSecret.Reveal()),
		MasterPublicKey:   base64Text(t.masterPublic),
		HTTP:              t.http,
	})
	if err != nil {
		return "", err
	}
	if err := t.device.Activate(ctx, t.qr, powerauth.ActivateOptions{Name: "Tour phone", Platform: "android"}); err != nil {
		return "", err
	}
	if t.device.ActivationID() != t.registration {
		return "", errors.New("the device got another registration")
	}
	return "protocol 3.2, code signed by the HSM", nil
}

func (t *tour) compareFingerprint(ctx context.Context) (string, error) {
	var res struct{ RegistrationStatus, ActivationFingerprint string }
	if err := t.call(ctx, t.basic, "GET", "/v2/registrations/"+t.registration, http.StatusOK, nil, &res); err != nil {
		return "", err
	}
	shown := res.ActivationFingerprint
	if shown != t.device.Fingerprint() || res.RegistrationStatus != "PENDING_COMMIT" {
		return "", fmt.Errorf("server shows %q in state %s, device %q", shown, res.RegistrationStatus, t.device.Fingerprint())
	}
	return shown + ", PENDING_COMMIT", nil
}

func (t *tour) commit(ctx context.Context) (string, error) {
	return "", t.call(ctx, t.basic, "POST", "/v2/registrations/"+t.registration+"/commit", http.StatusOK, map[string]any{}, nil)
}

type verifyBody struct {
	Method      string `json:"method"`
	URIID       string `json:"uriId"`
	AuthHeader  string `json:"authHeader"`
	RequestBody string `json:"requestBody"`
}

type verifyResult struct {
	SignatureValid     bool
	RegistrationStatus string
	RemainingAttempts  int
}

func (r verifyResult) String() string {
	return fmt.Sprintf("signatureValid %t, %s, %d attempts left", r.SignatureValid, r.RegistrationStatus, r.RemainingAttempts)
}

var tourPayment = []byte(`{"amount":"100.00","currency":"CZK","to":"238400856/0300"}`)

func (t *tour) sign() (verifyBody, error) {
	header, err := t.device.Sign("POST", "/tour/payment", tourPayment, signature.PossessionKnowledge)
	return verifyBody{"POST", "/tour/payment", header, base64Text(tourPayment)}, err
}

func (t *tour) verify(ctx context.Context, b verifyBody) (res verifyResult, err error) {
	return res, t.call(ctx, t.basic, "POST", "/v2/signature/verify", http.StatusOK, b, &res)
}

func (t *tour) verifyREST(ctx context.Context) (string, error) {
	b, err := t.sign()
	if err != nil {
		return "", err
	}
	t.replayed = b
	res, err := t.verify(ctx, b)
	if err == nil && !res.SignatureValid {
		err = errors.New(res.String())
	}
	return res.String(), err
}

func (t *tour) replay(ctx context.Context) (string, error) {
	res, err := t.verify(ctx, t.replayed)
	if err == nil && (res.SignatureValid || res.RegistrationStatus != "ACTIVE") {
		err = errors.New(res.String())
	}
	return res.String(), err
}

func (t *tour) verifyGRPC(ctx context.Context) (string, error) {
	b, err := t.sign()
	if err != nil {
		return "", err
	}
	res, err := signetv1.NewSignatureServiceClient(t.grpc).VerifySignature(
		metadata.AppendToOutgoingContext(ctx, "authorization", "Basic "+base64Text([]byte(t.paApp))),
		&signetv1.VerifySignatureRequest{Check: &signetv1.SignatureCheck{
			Method: b.Method, UriId: b.URIID, AuthHeader: b.AuthHeader, Body: tourPayment,
		}})
	if err != nil {
		return "", err
	}
	v := res.GetVerdict()
	if !v.GetValid() {
		return "", errors.New(v.String())
	}
	return fmt.Sprintf("valid, %d attempts left", v.GetRemainingAttempts()), nil
}

// fiveWrong signs one thing and presents another, which is what a thief of a
// signature would do.
func (t *tour) fiveWrong(ctx context.Context) (string, error) {
	var seen []string
	for i := 1; i <= 5; i++ {
		b, err := t.sign()
		if err != nil {
			return "", err
		}
		b.RequestBody = base64Text([]byte(`{"amount":"9100.00"}`))
		res, err := t.verify(ctx, b)
		if err != nil {
			return "", err
		}
		want := "ACTIVE"
		if i == 5 {
			want = "BLOCKED"
		}
		if res.SignatureValid || res.RegistrationStatus != want || res.RemainingAttempts != 5-i {
			return "", fmt.Errorf("attempt %d: %s", i, res)
		}
		seen = append(seen, res.RegistrationStatus)
	}
	return strings.Join(seen, " "), nil
}

func (t *tour) refusedWhenBlocked(ctx context.Context) (string, error) {
	b, err := t.sign()
	if err != nil {
		return "", err
	}
	res, err := t.verify(ctx, b)
	if err == nil && (res.SignatureValid || res.RegistrationStatus != "BLOCKED") {
		err = errors.New(res.String())
	}
	return res.String(), err
}
