package lint_test

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
)

// TestRandomCertificates makes certificates over all profiles and kinds of keys
// and issuers, with random names, names of hosts, addresses and times, and wants
// no finding in any; every tenth is made under a sampling linter, and then linted
// in full all the same. SIGNET_LONG=1 makes 10,000, else 500.
func TestRandomCertificates(t *testing.T) {
	t.Parallel()
	count := 500
	if os.Getenv("SIGNET_LONG") != "" {
		count = 10_000
	}
	kinds := []string{"P-256", "P-384", "Ed25519", "RSA-3072"}
	full, sampled := linter(t, 1), linter(t, 1000)
	var towers []*tower
	for _, kind := range kinds {
		towers = append(towers, newTower(t, kind, full))
	}
	keys := map[string][]crypto.Signer{"RSA-2048": {newKey(t, "RSA-2048")}}
	for _, kind := range kinds {
		keys[kind] = []crypto.Signer{newKey(t, kind)}
		for range 8 {
			if kind != "RSA-3072" {
				keys[kind] = append(keys[kind], newKey(t, kind))
			}
		}
	}
	profiles := []issuance.Profile{
		issuance.Root(), issuance.Issuer(), issuance.Signer(), issuance.ASTDevice(), issuance.Signature(), issuance.Gateway(), issuance.OCSPSigning(), issuance.CRLSigning(),
	}
	templates := map[string][2]*issuance.Template{}
	for _, p := range profiles {
		templates[p.Name] = [2]*issuance.Template{compile(t, p, full), compile(t, p, sampled)}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %d certificates", seed, count)
	var wg sync.WaitGroup
	failures := make(chan error, count)
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			r := &generator{rand.New(rand.NewPCG(seed, uint64(w)))} //nolint:gosec // a test wants to be repeatable
			for i := w; i < count; i += workers {
				p := profiles[i%len(profiles)]
				tower := towers[r.IntN(len(towers))]
				if err := r.one(tower, &p, templates[p.Name][btoi(i%10 == 0)], keys); err != nil {
					failures <- fmt.Errorf("certificate %d, %s under %s: %w", i, p.Name, tower.kind, err)
				}
			}
		})
	}
	wg.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

type generator struct{ *rand.Rand }

func (r *generator) one(w *tower, p *issuance.Profile, tpl *issuance.Template, keys map[string][]crypto.Signer) error {
	kind := [...]string{"P-256", "P-384", "Ed25519", "RSA-3072", "RSA-2048"}[r.IntN(5)]
	if kind == "RSA-2048" && p.MinRSABits > 2048 {
		kind = "RSA-3072"
	}
	if strings.HasPrefix(kind, "RSA") && !slices.Contains(p.Keys, issuance.RSA) {
		kind = "P-384"
	}
	key := keys[kind][r.IntN(len(keys[kind]))]
	csr, err := issuance.NewRequest(key)
	if err != nil {
		return err
	}
	request, err := issuance.ParseRequest(csr)
	if err != nil {
		return err
	}
	o := issuance.Order{Profile: tpl, Request: request, Now: now.Add(time.Duration(r.Int64N(int64(4 * 365 * 24 * time.Hour))))}
	for i := range o.Serial {
		o.Serial[i] = byte(r.IntN(256))
	}
	o.Serial[0] = byte(1 + r.IntN(127))
	signer := key
	var issuer *x509.Certificate
	switch {
	case p.SelfSigned:
	case p.Name == "ISSUER":
		o.Issuer, signer = w.root, w.rootKey
	case p.CA:
		o.Issuer, signer = w.issuer, w.issuerKey
	default:
		o.Issuer, signer = w.signer, w.signerKey
	}
	if o.Issuer != nil {
		issuer = o.Issuer.Certificate()
		r.locations(&o, p)
	}
	r.names(&o, p)
	d, err := issuance.Prepare(o)
	if err != nil {
		return err
	}
	der, err := d.Sign(signer)
	if err != nil {
		return err
	}
	return lint.Err(lint.Profiled(der, issuer, p))
}

func (r *generator) locations(o *issuance.Order, p *issuance.Profile) {
	shard := r.IntN(64)
	if r.IntN(2) == 0 {
		o.Locations.Issuer = []string{"http://pki.example.com/ca/00ff.cer"}
	}
	if p.OCSPNoCheck || p.SelfIssued || r.IntN(4) == 0 {
		return
	}
	for n := range 1 + r.IntN(3) {
		o.Locations.CRL = append(o.Locations.CRL, fmt.Sprintf("http://pki%d.example.com:8080/crl/00ff/%d.crl", n, shard))
	}
	if r.IntN(2) == 0 {
		o.Locations.OCSP = []string{"http://pki.example.com/ocsp/00ff"}
	}
}

// letters are of the kinds that people's names have.
var letters = []rune("abcXYZ0189 -.,'()&<>;@äßéÑçøłżşğЖйΩλ中文日本語한글אבעربी🏦€")

func (r *generator) text() string {
	for {
		out := make([]rune, 1+r.IntN(64))
		for i := range out {
			out[i] = letters[r.IntN(len(letters))]
		}
		if s := strings.TrimSpace(string(out)); s != "" {
			return s
		}
	}
}

func (r *generator) names(o *issuance.Order, p *issuance.Profile) {
	for _, a := range append(p.Subject.Required[:len(p.Subject.Required):len(p.Subject.Required)], p.Subject.Optional...) {
		switch a {
		case issuance.Country:
			o.Subject.Country = [...]string{"", "DE", "RS", "TR"}[r.IntN(4)]
		case issuance.Organization:
			o.Subject.Organization = r.text()
		case issuance.OrganizationalUnit:
			o.Subject.OrganizationalUnit = r.text()
		case issuance.CommonName:
			o.Subject.CommonName = r.text()
		case issuance.SerialNumber:
			o.Subject.SerialNumber = fmt.Sprintf("01F6MJ6J1AA8HWB7G6XR%06X", r.IntN(1<<24))
		}
	}
	if !p.AltNames.Required {
		return
	}
	for i := range 1 + r.IntN(5) {
		o.AltNames.DNS = append(o.AltNames.DNS, fmt.Sprintf("h%d-%x.%s", i, r.IntN(1<<16), [...]string{"bank.example", "corp", "a.b.c.internal"}[r.IntN(3)]))
	}
}

// TestValidityProperty: whatever the times of issuer and order, both ends are
// whole seconds within the issuer's, the first is the backdated order's unless
// the issuer begins later, and the last second is the last of the validity unless
// the issuer ends before.
func TestValidityProperty(t *testing.T) {
	t.Parallel()
	w := newTower(t, "P-256", linter(t, 1))
	ca := w.signer.Certificate()
	request := request(t, newKey(t, "P-256"))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test wants to be repeatable
	sampled := linter(t, 1_000_000)
	span := ca.NotAfter.Sub(ca.NotBefore)
	base := w.device(t, sampled)
	for range 10 {
		p := issuance.ASTDevice()
		p.Validity = time.Minute + time.Duration(r.Int64N(int64(2*span/time.Second)))*time.Second
		p.Backdate = time.Duration(r.Int64N(int64(min(p.Validity, 24*time.Hour)/time.Second))) * time.Second
		tpl := compile(t, p, sampled)
		for range 100 {
			var at time.Time
			switch r.IntN(3) {
			case 0: // near the beginning
				at = ca.NotBefore.Add(time.Duration(r.Int64N(int64(2 * time.Hour))))
			case 1: // near the end
				at = ca.NotAfter.Add(-time.Duration(r.Int64N(int64(2 * time.Hour))))
			default:
				at = ca.NotBefore.Add(time.Duration(r.Int64N(int64(span))))
			}
			o := base
			o.Profile, o.Serial, o.Request, o.Now = tpl, serial(t), request, at.In(time.FixedZone("", r.IntN(86400)-43200))
			d, err := issuance.Prepare(o)
			require.NoError(t, err)
			first := at.UTC().Truncate(time.Second).Add(-p.Backdate)
			if first.Before(ca.NotBefore) {
				first = ca.NotBefore
			}
			last := first.Add(p.Validity - time.Second)
			if last.After(ca.NotAfter) {
				last = ca.NotAfter
			}
			require.Equal(t, first, d.NotBefore())
			require.Equal(t, last, d.NotAfter())
			der, err := d.Sign(w.signerKey)
			require.NoError(t, err)
			cert, err := x509.ParseCertificate(der)
			require.NoError(t, err)
			require.Equal(t, first, cert.NotBefore)
			require.Equal(t, last, cert.NotAfter)
		}
	}
}
