package apitest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/access/accesstest"
	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
	"github.com/signet-hsm/signet/callback"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/push"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
	"github.com/signet-hsm/signet/tenant"
	"github.com/signet-hsm/signet/token"
)

// Installation is all domains over a database and a token of the test's own.
// Tenants are alpha and beta, twins in everything but their secrets.
type Installation struct {
	DB            *pgxpool.Pool
	Authority     *ca.Authority
	Registrations *registration.Registrar
	Applications  *app.Registry
	Operations    *operation.Ledger
	Audit         *audit.Log
	Tokens        *token.Keeper
	Push          *push.Pusher
	Callbacks     *callback.Callbacks
	Basic         *access.Basic
	Realms        *access.Realms
	Root          []byte // the CA's root certificate, DER

	Versions map[string]app.Version // of the applications alpha/APP, alpha/OTHER and beta/APP
	Masters  map[string][]byte      // their master public keys
	idps     map[tenant.ID]*accesstest.Provider
	caConfig ca.Config
}

func newInstallation(tb testing.TB, db *pgxpool.Pool) *Installation {
	tb.Helper()
	ctx := tb.Context()
	in := &Installation{
		DB: db, Versions: map[string]app.Version{}, Masters: map[string][]byte{},
		idps: map[tenant.ID]*accesstest.Provider{},
	}
	module := softhsmtest.New(tb)
	ref := hsm.Ref{Tenant: tenant.System.String(), Role: hsm.RoleKEK, Name: "kek"}
	_, err := module.Generate(ctx, ref, hsm.AES256, [16]byte{1})
	require.NoError(tb, err)
	kek, err := module.AEAD(ctx, ref)
	require.NoError(tb, err)
	keyring := envelope.New(in.DB, kek, envelope.Options{})
	log, err := audit.New(audit.Config{DB: in.DB})
	require.NoError(tb, err)

	apps, err := app.New(app.Config{DB: in.DB, HSM: module, Envelope: keyring, Audit: log})
	require.NoError(tb, err)
	for _, a := range []struct {
		tenant tenant.ID
		id     string
	}{{pgtest.Alpha, "APP"}, {pgtest.Alpha, "OTHER"}, {pgtest.Beta, "APP"}} {
		made, version, err := apps.Create(ctx, a.tenant, app.CreateParams{ID: a.id, Roles: []string{"ROLE"}})
		require.NoError(tb, err)
		key := a.tenant.String() + "/" + a.id
		in.Versions[key], in.Masters[key] = version, made.MasterPublic
	}
	in.Registrations, err = registration.New(registration.Config{DB: in.DB, Apps: apps, Envelope: keyring, Audit: log})
	require.NoError(tb, err)
	in.Applications, in.Audit = apps, log
	in.Operations, err = operation.New(operation.Config{DB: in.DB, Devices: in.Registrations, Apps: apps, Envelope: keyring, Audit: log})
	require.NoError(tb, err)
	in.Tokens, err = token.New(token.Config{DB: in.DB, Registrations: in.Registrations, Roles: apps, Envelope: keyring, Audit: log})
	require.NoError(tb, err)
	in.Push, err = push.New(push.Config{DB: in.DB, Envelope: keyring, Audit: log, Registrations: in.Registrations})
	require.NoError(tb, err)
	in.Callbacks, err = callback.New(callback.Config{DB: in.DB, Envelope: keyring, Audit: log})
	require.NoError(tb, err)
	in.Basic, err = access.NewBasic(access.BasicConfig{DB: in.DB, Sealer: keyring})
	require.NoError(tb, err)
	in.Realms = in.realms(tb)
	in.Authority = in.authority(tb, module, log)
	return in
}

// Login makes a Basic credential and returns its password.
func (in *Installation) Login(tb testing.TB, t tenant.ID, name string, role access.Privilege, apps ...string) string {
	tb.Helper()
	password, err := in.Basic.Create(tb.Context(), t, access.NewCredential{Username: name, Role: role, Apps: apps})
	require.NoError(tb, err)
	return string(password.Reveal())
}

// Token returns a bearer token of the tenant's realm.
func (in *Installation) Token(tb testing.TB, t tenant.ID, life time.Duration, roles ...string) string {
	tb.Helper()
	token, err := in.idps[t].Token("op-1", life, roles...)
	require.NoError(tb, err)
	return token
}

func (in *Installation) realms(tb testing.TB) *access.Realms {
	tb.Helper()
	var list []access.Realm
	for _, t := range []tenant.ID{pgtest.Alpha, pgtest.Beta} {
		idp, err := accesstest.New("https://idp.example/realms/"+t.String(), "signet")
		require.NoError(tb, err)
		doc, err := idp.JWKS()
		require.NoError(tb, err)
		file := filepath.Join(tb.TempDir(), "jwks.json")
		require.NoError(tb, os.WriteFile(file, doc, 0o600))
		list = append(list, access.Realm{Tenant: t, Issuer: idp.Issuer, Audience: idp.Audience, JWKSFile: file})
		in.idps[t] = idp
	}
	realms, err := access.NewRealms(access.RealmsConfig{Realms: list})
	require.NoError(tb, err)
	return realms
}

// authority has its issuer's key in the HSM, under a root in software.
func (in *Installation) authority(tb testing.TB, token *hsm.Token, log *audit.Log) *ca.Authority {
	tb.Helper()
	ref := hsm.Ref{Tenant: tenant.System.String(), Role: hsm.RoleIssuer, Name: "issuer"}
	_, err := token.Generate(tb.Context(), ref, hsm.P256, [16]byte{2})
	require.NoError(tb, err)
	issuerKey, err := token.Signer(tb.Context(), ref)
	require.NoError(tb, err)
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	now := time.Now().Add(-time.Hour)
	in.Root = certify(tb, rootKey, rootKey, issuance.Order{Subject: issuance.Subject{CommonName: "Test Root"}, Now: now}, issuance.Root())
	anchor, err := issuance.NewAuthority(in.Root)
	require.NoError(tb, err)
	issuer := certify(tb, rootKey, issuerKey, issuance.Order{Issuer: anchor, Subject: issuance.Subject{CommonName: "Test Issuer"}, Now: now}, issuance.Issuer())
	in.caConfig = ca.Config{DB: in.DB, Token: token, Audit: log, IssuerChain: [][]byte{issuer, in.Root}, IssuerKey: ref}
	return in.OtherAuthority(tb, func(*ca.Config) {})
}

// OtherAuthority is another node's Authority, configured otherwise.
func (in *Installation) OtherAuthority(tb testing.TB, change func(*ca.Config)) *ca.Authority {
	tb.Helper()
	c := in.caConfig
	change(&c)
	a, err := ca.New(tb.Context(), c)
	require.NoError(tb, err)
	return a
}

// certify signs a certificate for the key of subject with key.
func certify(tb testing.TB, key, subject crypto.Signer, o issuance.Order, p issuance.Profile) []byte {
	tb.Helper()
	linter, err := lint.New(lint.Config{})
	require.NoError(tb, err)
	o.Profile, err = p.Compile(issuance.Checks{Linter: linter})
	require.NoError(tb, err)
	csr, err := issuance.NewRequest(subject)
	require.NoError(tb, err)
	o.Request, err = issuance.ParseRequest(csr)
	require.NoError(tb, err)
	o.Serial, err = issuance.NewSerial(rand.Reader)
	require.NoError(tb, err)
	draft, err := issuance.Prepare(o)
	require.NoError(tb, err)
	der, err := draft.Sign(key)
	require.NoError(tb, err)
	return der
}
