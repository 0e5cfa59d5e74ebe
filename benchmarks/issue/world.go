package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pgcluster"
	"github.com/signet-hsm/signet/softhsm"
	"github.com/signet-hsm/signet/tenant"
)

var (
	bank      = tenant.MustParse("bank")
	issuerRef = hsm.Ref{Tenant: tenant.System.String(), Role: hsm.RoleIssuer, Name: "issuer"}
	signerRef = hsm.Ref{Tenant: bank.String(), Role: hsm.RoleSigner, Name: "signer"}
)

// world is a certificate authority in this process.
type world struct {
	cluster *pgcluster.Cluster
	db      *pgxpool.Pool
	st      *softhsm.Token
	token   *hsm.Token
	chain   [][]byte
}

// newWorld has its database in dir and its token in memory.
func newWorld(ctx context.Context, dir, memory string) (_ *world, err error) {
	w := &world{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	w.cluster, err = pgcluster.Start(ctx, pgcluster.Config{Dir: filepath.Join(dir, "pg"), Durable: true, Settings: map[string]string{
		"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min",
	}})
	if err != nil {
		return w, err
	}
	if w.db, err = pg.Open(ctx, w.cluster.URL(), pg.Options{MaxConns: 16}); err != nil {
		return w, err
	}
	if _, err := pg.Migrate(ctx, w.db); err != nil {
		return w, err
	}
	if err := tenant.Ensure(ctx, w.db, bank); err != nil {
		return w, err
	}
	if w.st, err = softhsm.Create(ctx, filepath.Join(memory, "token"), "issue"); err != nil {
		return w, err
	}
	if err := w.st.Isolate(); err != nil {
		return w, err
	}
	c := w.st.HSM()
	c.Instances, c.SessionCopies = 2, true // as the ceiling has it
	if w.token, err = hsm.Open(ctx, c); err != nil {
		return w, err
	}
	w.chain, err = w.issuer(ctx)
	return w, err
}

// issuer makes the issuer's key in the HSM under a root in software.
func (w *world) issuer(ctx context.Context) ([][]byte, error) {
	if _, err := w.token.Generate(ctx, issuerRef, hsm.P256, [16]byte{1}); err != nil {
		return nil, err
	}
	key, err := w.token.Signer(ctx, issuerRef)
	if err != nil {
		return nil, err
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	own, err := request(rootKey)
	if err != nil {
		return nil, err
	}
	root, err := certify(rootKey, issuance.Root(), issuance.Order{Request: own, Subject: issuance.Subject{CommonName: "Root"}})
	if err != nil {
		return nil, err
	}
	anchor, err := issuance.NewAuthority(root)
	if err != nil {
		return nil, err
	}
	der, err := issuance.NewRequest(key)
	if err != nil {
		return nil, err
	}
	asked, err := issuance.ParseRequest(der)
	if err != nil {
		return nil, err
	}
	issuer, err := certify(rootKey, issuance.Issuer(), issuance.Order{Issuer: anchor, Request: asked, Subject: issuance.Subject{CommonName: "Issuer"}})
	return [][]byte{issuer, root}, err
}

func request(key *ecdsa.PrivateKey) (*issuance.Request, error) {
	der, err := issuance.NewRequest(key)
	if err != nil {
		return nil, err
	}
	return issuance.ParseRequest(der)
}

func certify(key *ecdsa.PrivateKey, p issuance.Profile, o issuance.Order) ([]byte, error) {
	linter, err := lint.New(lint.Config{})
	if err != nil {
		return nil, err
	}
	if o.Profile, err = p.Compile(issuance.Checks{Linter: linter}); err != nil {
		return nil, err
	}
	if o.Serial, err = issuance.NewSerial(rand.Reader); err != nil {
		return nil, err
	}
	o.Now = time.Now().Add(-time.Hour)
	d, err := issuance.Prepare(o)
	if err != nil {
		return nil, err
	}
	return d.Sign(key)
}

// authority is the CA; one in every so many certificates is linted in full and
// verified.
func (w *world) authority(ctx context.Context, every int) (*ca.Authority, error) {
	log, err := audit.New(audit.Config{DB: w.db})
	if err != nil {
		return nil, err
	}
	return ca.New(ctx, ca.Config{
		DB: w.db, Token: w.token, Audit: log, IssuerChain: w.chain, IssuerKey: issuerRef, LintEvery: every, VerifyEvery: every,
	})
}

// draft is the engine alone: the order for one certificate of the signer, without
// what the database adds.
func (w *world) draft(signer []byte) (issuance.Order, error) {
	authority, err := issuance.NewAuthority(signer)
	if err != nil {
		return issuance.Order{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return issuance.Order{}, err
	}
	asked, err := request(key)
	if err != nil {
		return issuance.Order{}, err
	}
	linter, err := lint.New(lint.Config{Every: 100})
	if err != nil {
		return issuance.Order{}, err
	}
	p := issuance.ASTDevice()
	profile, err := p.Compile(issuance.Checks{Linter: linter, VerifyEvery: 100})
	return issuance.Order{
		Issuer: authority, Profile: profile, Request: asked, Subject: issuance.Subject{CommonName: client, Organization: "Bank"},
		Now: time.Now(),
	}, err
}

const client = "01J0000000000000000000000A"

// csr is a certificate request in DER with a new key.
func csr(t *x509.CertificateRequest) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(rand.Reader, t, key)
}

func (w *world) close() error {
	var all error
	if w.token != nil {
		all = w.token.Close()
	}
	if w.db != nil {
		w.db.Close()
	}
	if w.cluster != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		all = errors.Join(all, w.cluster.Stop(ctx))
	}
	return all
}
