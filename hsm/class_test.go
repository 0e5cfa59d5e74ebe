package hsm

import (
	"context"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	for rv, want := range map[p11.Error]class{
		p11.CKR_SESSION_HANDLE_INVALID: classSession, p11.CKR_SESSION_CLOSED: classSession, p11.CKR_OPERATION_ACTIVE: classSession,
		p11.CKR_USER_NOT_LOGGED_IN: classLogin, p11.CKR_OBJECT_HANDLE_INVALID: classLogin, p11.CKR_KEY_HANDLE_INVALID: classLogin,
		p11.CKR_DEVICE_ERROR: classToken, p11.CKR_DEVICE_REMOVED: classToken, p11.CKR_TOKEN_NOT_PRESENT: classToken,
		p11.CKR_GENERAL_ERROR: classToken, p11.CKR_CRYPTOKI_NOT_INITIALIZED: classToken, p11.CKR_SLOT_ID_INVALID: classToken,
		p11.CKR_PIN_INCORRECT: classPIN, p11.CKR_PIN_LOCKED: classPIN, p11.CKR_PIN_EXPIRED: classPIN,
		p11.CKR_KEY_FUNCTION_NOT_PERMITTED: classRefused, p11.CKR_DATA_LEN_RANGE: classRefused,
		p11.CKR_MECHANISM_INVALID: classMissing,
		p11.CKR_HOST_MEMORY:       classOther, p11.CKR_SESSION_COUNT: classOther, p11.Error(0x80000001): classOther,
	} {
		require.Equal(t, want, classify(rv), "%v", rv)
		require.Equal(t, want, classify(fmt.Errorf("wrapped: %w", rv)), "%v", rv)
		require.Equal(t, want == classSession || want == classLogin, want.heals())
		err := wrap("test", rv)
		require.ErrorIs(t, err, rv)
		switch want {
		case classPIN:
			require.ErrorIs(t, err, ErrPIN)
		case classRefused:
			require.ErrorIs(t, err, ErrRefused)
		case classMissing:
			require.ErrorIs(t, err, ErrUnsupported)
		default:
			require.ErrorIs(t, err, fault.ErrUnavailable)
		}
	}
	require.Equal(t, classNone, classify(nil))
	require.Equal(t, classOther, classify(errors.New("plain")))
	require.NoError(t, wrap("test", nil))
	require.ErrorIs(t, wrap("test", ErrKeyNotFound), ErrKeyNotFound)
	require.NotErrorIs(t, wrap("test", ErrKeyNotFound), fault.ErrUnavailable)
}

// Each return value that the library can name has a class of its own choice, and
// each class its sentinel and its metric label. A value that is new to us is
// classOther: an outage, never a verdict.
func TestEveryReturnValueHasAClass(t *testing.T) {
	t.Parallel()
	named := 0
	for code := uint(1); code < 0x1000; code++ {
		rv := p11.Error(code)
		if !strings.Contains(rv.Error(), "CKR_") {
			continue
		}
		named++
		t.Run(rv.Error(), func(t *testing.T) {
			c, ok := classes[rv]
			require.True(t, ok, "enter it in class.go")
			require.Equal(t, c, classify(fmt.Errorf("call: %w", rv)))
			want := map[class]error{classPIN: ErrPIN, classRefused: ErrRefused, classMissing: ErrUnsupported}[c]
			if want == nil {
				want = fault.ErrUnavailable
			}
			err := wrap("call", rv)
			require.ErrorIs(t, err, want)
			require.ErrorIs(t, err, rv)
			require.Equal(t, c.String(), outcome(err))
			back := FailureOf(err).Err()
			require.ErrorIs(t, back, want)
			require.Equal(t, c, classify(back), "the class survives the way to another process")
		})
	}
	require.GreaterOrEqual(t, named, 85, "the library's names are gone")
	require.Equal(t, classOther, classify(p11.Error(0x80000001)))
}

// Every class has a label, and labels stay few: they are metric values.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range classes {
		require.NotEmpty(t, c.String())
		seen[c.String()] = true
	}
	require.LessOrEqual(t, len(seen), len(classNames))
	require.Equal(t, "ok", outcome(nil))
	require.Equal(t, "canceled", outcome(fmt.Errorf("x: %w", context.DeadlineExceeded)))
}

// Points as the standard encodes them, as some modules do, and as none should.
func TestParsePoint(t *testing.T) {
	t.Parallel()
	curve := algorithms[Ed25519].curve
	bare := make([]byte, 32)
	for _, point := range [][]byte{bare, append([]byte{0x04, 32}, bare...)} {
		pub, alg, err := parsePoint(curve, point)
		require.NoError(t, err)
		require.Equal(t, Ed25519, alg)
		require.Len(t, pub, 32)
	}
	for name, c := range map[string][2][]byte{
		"no curve":       {nil, bare},
		"foreign curve":  {{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a}, bare}, // secp256k1
		"short point":    {curve, bare[:31]},
		"no point":       {curve, nil},
		"infinity":       {algorithms[P256].curve, {0x04, 0x01, 0x00}},
		"off the curve":  {algorithms[P256].curve, append([]byte{0x04}, make([]byte, 64)...)},
		"of other curve": {algorithms[P384].curve, append([]byte{0x04}, make([]byte, 64)...)},
	} {
		_, _, err := parsePoint(c[0], c[1])
		require.ErrorIs(t, err, ErrTemplate, name)
	}
}

// The hand-written DER is what encoding/asn1 makes of the same numbers.
func TestDERSignature(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 32, 48, 66} {
		for range 300 {
			raw := make([]byte, 2*n)
			_, _ = rand.Read(raw)
			if n > 1 {
				raw[0] &= raw[1] & 0x81 // leading zeros and set top bits
				raw[n] &= raw[n+1] & 0x81
			}
			r, s := new(big.Int).SetBytes(raw[:n]), new(big.Int).SetBytes(raw[n:])
			got, err := derSignature(append([]byte("head"), raw...), 4)
			if r.Sign() == 0 || s.Sign() == 0 {
				require.ErrorIs(t, err, ErrRefused)
				continue
			}
			require.NoError(t, err)
			want, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
			require.NoError(t, err)
			require.Equal(t, append([]byte("head"), want...), got, "%x", raw)
		}
	}
	for _, n := range []int{0, 1, 63, 134} {
		_, err := derSignature(make([]byte, n), 0)
		require.ErrorIs(t, err, ErrRefused, "%d bytes", n)
	}
}
