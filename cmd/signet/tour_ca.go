package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/oklog/ulid/v2"
	"golang.org/x/crypto/ocsp"
)

const (
	tourIssuers  = 4 // callers that issue while the signer is rotated
	tourCRLEvery = 50 * time.Millisecond
)

type issuedBody struct {
	CertRef     string
	Certificate []byte // base64 in JSON
	Chain       [][]byte
}

func (t *tour) issue(ctx context.Context) (res issuedBody, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return res, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return res, err
	}
	return res, t.call(ctx, t.bearer(t.tokenWrite), "POST", "/v1/tenants/"+devTenant+"/certificates/admin", http.StatusCreated,
		map[string]any{"csr": csr, "user": "tour", "client": ulid.Make().String()}, &res)
}

// rotateUnderTraffic makes a new signer while others issue without a pause. No
// request may fail, and each certificate has to verify, whichever signer it is of.
func (t *tour) rotateUnderTraffic(ctx context.Context) (string, error) {
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		failed error
		count  int
		chains = map[string]bool{}
		stop   = make(chan struct{})
	)
	for range tourIssuers {
		wg.Go(func() {
			for ended := false; !ended; {
				select {
				case <-stop:
					ended = true // one more, surely by the new signer
				default:
				}
				made, err := t.issue(ctx)
				if err == nil {
					_, err = t.verifyChain(append([][]byte{made.Certificate}, made.Chain...))
				}
				mu.Lock()
				if err != nil {
					failed, ended = err, true
				} else {
					count++
					cert := sha256.Sum256(made.Chain[0])
					chains[string(cert[:])] = true
				}
				mu.Unlock()
			}
		})
	}
	_, err := t.createSigner(ctx)
	close(stop)
	wg.Wait()
	if err = errors.Join(err, failed); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d certificates by %d signers, all verify", count, len(chains)), nil
}

// revokeCertificate revokes a certificate and looks where a verifier would: at
// the addresses in the certificate.
func (t *tour) revokeCertificate(ctx context.Context) (string, error) {
	made, err := t.issue(ctx)
	if err != nil {
		return "", err
	}
	cert, err := x509.ParseCertificate(made.Certificate)
	if err != nil {
		return "", err
	}
	signer, err := x509.ParseCertificate(made.Chain[0])
	if err != nil {
		return "", err
	}
	if status, err := t.ocsp(ctx, cert, signer); err != nil || status != ocsp.Good {
		return "", fmt.Errorf("before: OCSP status %d: %w", status, err)
	}
	at := time.Now()
	if err := t.call(ctx, t.bearer(t.tokenWrite), "POST", "/v1/tenants/"+devTenant+"/certificates/admin/"+made.CertRef+"/revoke",
		http.StatusNoContent, map[string]any{"reason": "KEY_COMPROMISE"}, nil); err != nil {
		return "", err
	}
	if status, err := t.ocsp(ctx, cert, signer); err != nil || status != ocsp.Revoked {
		return "", fmt.Errorf("after: OCSP status %d: %w", status, err)
	}
	inOCSP := time.Since(at)
	for { // the CRL is made by a worker, soon after
		listed, err := t.onCRL(ctx, cert, signer)
		if listed {
			return fmt.Sprintf("OCSP after %s, CRL after %s", inOCSP.Round(time.Millisecond), time.Since(at).Round(time.Millisecond)), nil
		}
		select {
		case <-ctx.Done():
			return "", errors.Join(errors.New("the CRL does not list it"), err)
		case <-time.After(tourCRLEvery):
		}
	}
}

func (t *tour) fetch(ctx context.Context, method, url, mediaType string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := t.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s", method, url, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, 1<<20))
}

// ocsp asks about cert; the answer must be signed for its issuer.
func (t *tour) ocsp(ctx context.Context, cert, issuer *x509.Certificate) (int, error) {
	if len(cert.OCSPServer) != 1 {
		return 0, errors.New("the certificate names no OCSP server")
	}
	question, err := ocsp.CreateRequest(cert, issuer, nil)
	if err != nil {
		return 0, err
	}
	raw, err := t.fetch(ctx, http.MethodPost, cert.OCSPServer[0], "application/ocsp-request", question)
	if err != nil {
		return 0, err
	}
	answer, err := ocsp.ParseResponseForCert(raw, cert, issuer)
	if err != nil {
		return 0, err
	}
	return answer.Status, nil
}

func (t *tour) onCRL(ctx context.Context, cert, issuer *x509.Certificate) (bool, error) {
	if len(cert.CRLDistributionPoints) != 1 {
		return false, errors.New("the certificate names no CRL")
	}
	raw, err := t.fetch(ctx, http.MethodGet, cert.CRLDistributionPoints[0], "", nil)
	if err != nil {
		return false, err
	}
	list, err := x509.ParseRevocationList(raw)
	if err != nil {
		return false, err
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return false, err
	}
	for _, e := range list.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(cert.SerialNumber) == 0 {
			return true, nil
		}
	}
	return false, nil
}

// sdkConfig has a configuration signed and verifies it as an app would: by the
// chain in its header, up to the root that came with the ceremony.
func (t *tour) sdkConfig(ctx context.Context) (string, error) {
	var res struct{ SDKConfig string }
	if err := t.call(ctx, t.bearer(t.tokenWrite), "POST", "/v1/tenants/"+devTenant+"/sdkconfig", http.StatusOK, map[string]any{
		"tlsBundle": []string{base64.StdEncoding.EncodeToString(t.issued)}, "astUrl": "https://ast.example",
		"services": []map[string]string{{"name": "astLogin", "url": "https://ast.example/login"}},
	}, &res); err != nil {
		return "", err
	}
	jws, err := jose.ParseSignedCompact(res.SDKConfig, []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.RS256, jose.EdDSA})
	if err != nil {
		return "", err
	}
	root, err := t.root()
	if err != nil {
		return "", err
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	chains, err := jws.Signatures[0].Header.Certificates(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return "", err
	}
	claims, err := jws.Verify(chains[0][0].PublicKey)
	if err != nil {
		return "", err
	}
	var c struct{ Tenant string }
	if err := json.Unmarshal(claims, &c); err != nil || c.Tenant != devTenant {
		return "", fmt.Errorf("tenant %q: %w", c.Tenant, err)
	}
	return fmt.Sprintf("%s, %d characters", jws.Signatures[0].Header.Algorithm, len(res.SDKConfig)), nil
}
