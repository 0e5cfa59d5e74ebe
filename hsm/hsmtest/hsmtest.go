package hsmtest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
)

// Caps says what a module lacks. The zero value demands everything.
type Caps struct {
	// Lacks lists algorithms without which the module is still of use. Generate
	// must answer them with hsm.ErrUnsupported.
	Lacks []hsm.Algorithm
	// NoAgreement: no ECDH. RoleMaster keys can then not be made at all.
	NoAgreement bool
	// Shared says that open returns one token again and again: the parts run one
	// after the other, and each begins and ends with no key of the suite on it.
	Shared bool
	// Slow says that a call takes milliseconds: the parts that count calls make fewer.
	Slow bool
}

// Discover finds out what a module lacks by asking it to make one key of each
// kind; ErrUnsupported is the only answer that counts as a lack.
func Discover(t *testing.T, open func(t *testing.T) *hsm.Token) Caps {
	t.Helper()
	clear(t, open(t))
	tok := open(t)
	defer clear(t, tok)
	var caps Caps
	for role, list := range map[hsm.Role][]hsm.Algorithm{
		hsm.RoleSigner: {hsm.P256, hsm.P384, hsm.RSA2048, hsm.RSA3072, hsm.Ed25519},
		hsm.RoleKEK:    {hsm.AES256}, hsm.RoleMAC: {hsm.HMACSHA256}, hsm.RoleMaster: {hsm.P256},
	} {
		for _, a := range list {
			_, err := tok.Generate(t.Context(), ref(role, "discover-"+string(a)), a, [16]byte{})
			if err != nil {
				t.Logf("%s %s: %v", role, a, err)
			}
			switch {
			case err == nil:
			case errors.Is(err, hsm.ErrUnsupported) && role == hsm.RoleMaster:
				caps.NoAgreement = true
			case errors.Is(err, hsm.ErrUnsupported):
				caps.Lacks = append(caps.Lacks, a)
			default:
				require.NoError(t, err, "%s %s", role, a)
			}
		}
	}
	slices.Sort(caps.Lacks)
	start := time.Now()
	for range 20 {
		require.NoError(t, tok.Check(t.Context()))
	}
	caps.Slow = time.Since(start) > 100*time.Millisecond
	return caps
}

// clear destroys the suite's keys and closes the token.
func clear(t *testing.T, tok *hsm.Token) {
	t.Helper()
	defer func() { require.NoError(t, tok.Close()) }()
	keys, err := tok.Keys(t.Context(), func(r hsm.Ref) bool { return strings.HasPrefix(r.Tenant, "contract") })
	require.NoError(t, err)
	for _, k := range keys {
		require.NoError(t, tok.Destroy(t.Context(), k.Ref))
	}
}

func (c Caps) has(a hsm.Algorithm) bool { return !slices.Contains(c.Lacks, a) }

// Run proves the contract. open returns an empty token that belongs to the test
// and is closed by its cleanup; it is called once per part.
func Run(t *testing.T, open func(t *testing.T) *hsm.Token, caps Caps) {
	t.Helper()
	parts := []struct {
		name string
		run  func(*testing.T, *hsm.Token, Caps)
	}{
		{"names", testNames},
		{"signatures", testSignatures},
		{"certificates", testCertificates},
		{"refused input", testRefusedInput},
		{"sealing", testSealing},
		{"mac", testMAC},
		{"agreement", testAgreement},
		{"random", testRandom},
		{"roles", testRoles},
		{"load", testLoad},
		{"contexts", testContexts},
		{"close", testClose},
	}
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) {
			if !caps.Shared {
				t.Parallel()
			}
			if caps.Shared {
				// With a module that is initialised anew afterwards: some do not
				// count their handles right once objects are gone (tpm2-pkcs11).
				clear(t, open(t))
			}
			p.run(t, open(t), caps)
		})
	}
}

// ref names a key of the suite.
func ref(role hsm.Role, name string) hsm.Ref {
	return hsm.Ref{Tenant: "contract", Role: role, Name: name}
}

func generate(t *testing.T, tok *hsm.Token, r hsm.Ref, a hsm.Algorithm) hsm.KeyInfo {
	t.Helper()
	info, err := tok.Generate(t.Context(), r, a, [16]byte{})
	require.NoError(t, err, "%s %s", r, a)
	return info
}

// signing lists the kinds of key the module can sign with.
func signing(caps Caps) []hsm.Algorithm {
	return slices.DeleteFunc([]hsm.Algorithm{hsm.P256, hsm.P384, hsm.RSA2048, hsm.RSA3072, hsm.Ed25519},
		func(a hsm.Algorithm) bool { return !caps.has(a) })
}

func testNames(t *testing.T, tok *hsm.Token, caps Caps) {
	alg := signing(caps)[0]
	ctx := t.Context()
	want, id := ref(hsm.RoleSigner, "a"), [16]byte{1, 2, 3}
	_, err := tok.Lookup(ctx, want)
	require.ErrorIs(t, err, hsm.ErrKeyNotFound)

	made, err := tok.Generate(ctx, want, alg, id)
	require.NoError(t, err)
	require.Equal(t, want, made.Ref)
	require.Equal(t, id, made.ID)
	require.Equal(t, alg, made.Algorithm)
	found, err := tok.Lookup(ctx, want)
	require.NoError(t, err)
	require.Equal(t, made, found)

	_, err = tok.Generate(ctx, want, alg, [16]byte{9})
	require.ErrorIs(t, err, hsm.ErrExists, "the label is taken")
	_, err = tok.Generate(ctx, ref(hsm.RoleSigner, "b"), alg, id)
	require.ErrorIs(t, err, hsm.ErrExists, "the id is taken")

	// Neighbours in every part of the name are other keys.
	for _, other := range []hsm.Ref{
		{Tenant: "contract2", Role: want.Role, Name: want.Name},
		{Tenant: want.Tenant, Role: hsm.RoleIssuer, Name: want.Name},
		{Tenant: want.Tenant, Role: want.Role, Name: want.Name, Generation: 1},
	} {
		_, err := tok.Lookup(ctx, other)
		require.ErrorIs(t, err, hsm.ErrKeyNotFound, other.String())
	}
	next := want
	next.Generation = 1
	generate(t, tok, next, alg)
	keys, err := tok.Keys(ctx, func(r hsm.Ref) bool { return r.Name == "a" })
	require.NoError(t, err)
	require.Len(t, keys, 2)

	require.NoError(t, tok.Destroy(ctx, want))
	_, err = tok.Lookup(ctx, want)
	require.ErrorIs(t, err, hsm.ErrKeyNotFound)
	require.ErrorIs(t, tok.Destroy(ctx, want), hsm.ErrKeyNotFound)
	_, err = tok.Lookup(ctx, next)
	require.NoError(t, err)
	generate(t, tok, want, alg) // the name is free again

	for _, bad := range []hsm.Ref{
		{},
		{Tenant: "contract", Role: "wizard", Name: "a"},
		{Tenant: "a/b", Role: hsm.RoleMAC, Name: "a"},
		{Tenant: "contract", Role: hsm.RoleMAC, Name: ""},
		{Tenant: "contract", Role: hsm.RoleMAC, Name: "a", Generation: -1},
	} {
		_, err := tok.Lookup(ctx, bad)
		require.ErrorIs(t, err, hsm.ErrRef, bad.String())
		_, err = tok.Generate(ctx, bad, alg, [16]byte{})
		require.ErrorIs(t, err, hsm.ErrRef, bad.String())
	}
}

// testRoles: a handle is only made for a role that can do what it offers, a key
// only of an algorithm that its role allows.
func testRoles(t *testing.T, tok *hsm.Token, caps Caps) {
	ctx := t.Context()
	signer := ref(hsm.RoleSigner, "s")
	generate(t, tok, signer, signing(caps)[0])
	_, err := tok.AEAD(ctx, signer)
	require.ErrorIs(t, err, hsm.ErrUnsupported)
	_, err = tok.MAC(ctx, signer)
	require.ErrorIs(t, err, hsm.ErrUnsupported)
	_, err = tok.Agreement(ctx, signer)
	require.ErrorIs(t, err, hsm.ErrUnsupported)
	if caps.has(hsm.AES256) {
		kek := ref(hsm.RoleKEK, "k")
		generate(t, tok, kek, hsm.AES256)
		_, err = tok.Signer(ctx, kek)
		require.ErrorIs(t, err, hsm.ErrUnsupported)
		_, err = tok.MAC(ctx, kek)
		require.ErrorIs(t, err, hsm.ErrUnsupported)
	}
	if caps.has(hsm.HMACSHA256) {
		mac := ref(hsm.RoleMAC, "m")
		generate(t, tok, mac, hsm.HMACSHA256)
		_, err = tok.Signer(ctx, mac)
		require.ErrorIs(t, err, hsm.ErrUnsupported)
		_, err = tok.AEAD(ctx, mac)
		require.ErrorIs(t, err, hsm.ErrUnsupported)
	}
	for _, c := range []struct {
		role hsm.Role
		alg  hsm.Algorithm
	}{
		{hsm.RoleRoot, hsm.RSA2048},
		{hsm.RoleRoot, hsm.AES256},
		{hsm.RoleKEK, hsm.P256},
		{hsm.RoleMAC, hsm.AES256},
		{hsm.RoleMaster, hsm.P384},
		{hsm.RoleSigner, "P-521"},
		{hsm.RoleSigner, ""},
	} {
		_, err := tok.Generate(ctx, ref(c.role, "x"), c.alg, [16]byte{})
		require.ErrorIs(t, err, hsm.ErrUnsupported, "%s %s", c.role, c.alg)
	}
	for _, a := range caps.Lacks {
		for _, r := range []hsm.Role{hsm.RoleSigner, hsm.RoleKEK, hsm.RoleMAC} {
			_, err := tok.Generate(ctx, ref(r, "x-"+string(a)), a, [16]byte{})
			require.ErrorIs(t, err, hsm.ErrUnsupported, "%s %s", r, a)
		}
	}
}

func testRandom(t *testing.T, tok *hsm.Token, _ Caps) {
	seen := map[string]bool{}
	for range 64 {
		b := make([]byte, 32)
		require.NoError(t, tok.Random(t.Context(), b))
		require.False(t, seen[string(b)])
		seen[string(b)] = true
	}
	require.NoError(t, tok.Random(t.Context(), nil))
}

func testContexts(t *testing.T, tok *hsm.Token, caps Caps) {
	r := ref(hsm.RoleSigner, "c")
	generate(t, tok, r, signing(caps)[0])
	done, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, tok.Random(done, make([]byte, 8)), context.Canceled)
	require.ErrorIs(t, tok.Check(done), context.Canceled)
	_, err := tok.Generate(done, ref(hsm.RoleSigner, "d"), signing(caps)[0], [16]byte{})
	require.ErrorIs(t, err, context.Canceled)
	_, err = tok.Lookup(t.Context(), ref(hsm.RoleSigner, "d"))
	require.ErrorIs(t, err, hsm.ErrKeyNotFound, "nothing was made")
	require.NoError(t, tok.Check(t.Context()))
	require.False(t, tok.LastGood().IsZero())
}

func testClose(t *testing.T, tok *hsm.Token, caps Caps) {
	r := ref(hsm.RoleSigner, "z")
	generate(t, tok, r, signing(caps)[0])
	s, err := tok.Signer(t.Context(), r)
	require.NoError(t, err)
	require.NoError(t, tok.Close())
	require.NoError(t, tok.Close(), "a second Close is nothing")
	_, err = sign(s, []byte("x"))
	require.ErrorIs(t, err, hsm.ErrClosed)
	require.ErrorIs(t, tok.Check(t.Context()), hsm.ErrClosed)
	_, err = tok.Generate(t.Context(), ref(hsm.RoleSigner, "y"), signing(caps)[0], [16]byte{})
	require.ErrorIs(t, err, hsm.ErrClosed)
}
