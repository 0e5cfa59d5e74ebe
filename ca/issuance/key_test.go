package issuance_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // Debian's list
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"io"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/issuance"
)

// The encodings under which anybody can sign anything: the points of order 1, 2,
// 4 and 8, both signs, and those beyond the field's end that mean the same.
func smallOrder(t *testing.T) (out []ed25519.PublicKey) {
	t.Helper()
	for _, s := range []string{
		"0100000000000000000000000000000000000000000000000000000000000000",
		"0000000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		k, err := hex.DecodeString(s)
		require.NoError(t, err)
		negative := append(ed25519.PublicKey(nil), k...)
		negative[31] |= 0x80
		out = append(out, k, negative)
	}
	return out
}

func TestCheckKeyEd25519(t *testing.T) {
	t.Parallel()
	for range 50 {
		_, _, err := issuance.CheckKey(edKey(t).Public())
		require.NoError(t, err)
	}
	for _, k := range smallOrder(t) {
		_, _, err := issuance.CheckKey(k)
		require.ErrorIs(t, err, issuance.ErrWeakKey, "%x", k)
	}
	_, _, err := issuance.CheckKey(ed25519.PublicKey(make([]byte, 31)))
	require.ErrorIs(t, err, issuance.ErrKeyAlgorithm)
	// Half of all values are no point; the library is the reference for which.
	refused := 0
	for i := range 64 {
		k := ed25519.PublicKey(make([]byte, 32))
		k[0], k[7] = byte(i+2), 0x55
		_, _, err := issuance.CheckKey(k)
		require.Equal(t, isPoint(k), err == nil, "%x", k)
		if err != nil {
			refused++
		}
	}
	require.Greater(t, refused, 10)
	require.Less(t, refused, 54)
}

// isPoint computes x from y, as RFC 8032 section 5.1.3 has it.
func isPoint(k ed25519.PublicKey) bool {
	p, _ := new(big.Int).SetString("7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed", 16)
	le := append([]byte(nil), k...)
	le[31] &= 0x7f
	for i, j := 0, 31; i < j; i, j = i+1, j-1 {
		le[i], le[j] = le[j], le[i]
	}
	y := new(big.Int).SetBytes(le)
	d := new(big.Int).Mul(big.NewInt(-121665), new(big.Int).ModInverse(big.NewInt(121666), p))
	y2 := new(big.Int).Mul(y, y)
	v := new(big.Int).Add(new(big.Int).Mul(d, y2), big.NewInt(1))
	x2 := new(big.Int).Sub(y2, big.NewInt(1))
	x2.Mul(x2, v.ModInverse(v.Mod(v, p), p)).Mod(x2, p)
	return new(big.Int).ModSqrt(x2, p) != nil
}

// identitySigner holds no secret: under the neutral point, R = 0 and S = 0 sign
// every message.
type identitySigner struct{ key ed25519.PublicKey }

func (s identitySigner) Public() crypto.PublicKey { return s.key }

func (s identitySigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return append(append([]byte(nil), s.key...), make([]byte, 32)...), nil
}

func TestAKeyOfNobodyIsRefused(t *testing.T) {
	t.Parallel()
	s := identitySigner{smallOrder(t)[0]}
	der := csr(t, s, &x509.CertificateRequest{})
	parsed, err := x509.ParseCertificateRequest(der)
	require.NoError(t, err)
	require.NoError(t, parsed.CheckSignature(), "the library takes it for a proof of possession")
	_, err = issuance.ParseRequest(der)
	require.ErrorIs(t, err, issuance.ErrWeakKey)
}

func TestCheckKeyECDSA(t *testing.T) {
	t.Parallel()
	for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		good := ecKey(t, c).PublicKey
		_, _, err := issuance.CheckKey(&good)
		require.NoError(t, err)
		//lint:ignore SA1019 no other way leads to a wrong key
		off := ecdsa.PublicKey{Curve: c, X: good.X, Y: new(big.Int).Xor(good.Y, big.NewInt(1))}
		_, _, err = issuance.CheckKey(&off)
		require.ErrorIs(t, err, issuance.ErrKeyAlgorithm)
		//lint:ignore SA1019 as above
		zero := ecdsa.PublicKey{Curve: c, X: new(big.Int), Y: new(big.Int)}
		_, _, err = issuance.CheckKey(&zero)
		require.ErrorIs(t, err, issuance.ErrKeyAlgorithm)
	}
	for _, c := range []elliptic.Curve{elliptic.P224(), elliptic.P521()} {
		_, _, err := issuance.CheckKey(&ecKey(t, c).PublicKey)
		require.ErrorIs(t, err, issuance.ErrKeyAlgorithm)
	}
}

func TestBlockedKeysAreRefused(t *testing.T) {
	t.Parallel()
	w := ecTower(t)
	ec, rs := request(t, ecKey(t, elliptic.P256())), request(t, rsaKey(t, 2048))
	sum := ec.SPKIHash()
	// As `openssl rsa -modulus | sha1sum | cut -c21-` prints it.
	n := rs.PublicKey().(*rsa.PublicKey).N
	debian := sha1.Sum([]byte("Modulus=" + strings.ToUpper(n.Text(16)) + "\n")) //nolint:gosec // see above
	other := sha256.Sum256([]byte("another key"))
	for name, c := range map[string]struct {
		list    string
		request *issuance.Request
		want    error
	}{
		"the hash of a key":   {hex.EncodeToString(sum[:]), ec, issuance.ErrKeyBlocked},
		"in capitals":         {strings.ToUpper(hex.EncodeToString(sum[:])), ec, issuance.ErrKeyBlocked},
		"Debian's half":       {hex.EncodeToString(debian[10:]), rs, issuance.ErrKeyBlocked},
		"other keys":          {"# none of these\n\n" + hex.EncodeToString(other[:]) + "\n00112233445566778899\r\n", ec, nil},
		"other RSA keys":      {"00112233445566778899", rs, nil},
		"the wrong half":      {hex.EncodeToString(debian[:10]), rs, nil},
		"Debian's for others": {hex.EncodeToString(debian[10:]), ec, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, err := issuance.ParseBlockList([]byte(c.list))
			require.NoError(t, err)
			p := issuance.ASTDevice()
			o := w.order(t, c.request)
			o.Profile, err = p.Compile(issuance.Checks{Linter: checks.Linter, Blocked: list})
			require.NoError(t, err)
			_, err = issuance.Prepare(o)
			require.ErrorIs(t, err, c.want)
		})
	}
	for _, bad := range []string{"abc", strings.Repeat("0", 62), "0x" + strings.Repeat("0", 64), strings.Repeat("g", 20)} {
		_, err := issuance.ParseBlockList([]byte("# fine\n"), []byte("\n"+bad+"\n"))
		require.ErrorIs(t, err, issuance.ErrProfile)
		require.ErrorContains(t, err, "line 2")
	}
}

func FuzzParseBlockList(f *testing.F) {
	f.Add([]byte("# a comment\n\n00112233445566778899\n"))
	f.Add([]byte(strings.Repeat("ab", 32) + "\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := issuance.ParseBlockList(text)
		if err != nil {
			require.ErrorIs(t, err, issuance.ErrProfile)
			return
		}
		require.LessOrEqual(t, 20*b.Len(), len(text))
	})
}
