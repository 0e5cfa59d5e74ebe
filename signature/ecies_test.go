package signature

import (
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/rand"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
)

// exchange is one request on its way to the server.
type exchange struct {
	server *ecdh.PrivateKey
	params EnvelopeParams
	wire   EncryptedRequest
	client *Requester
}

func newExchange(t *testing.T, v Version, plaintext string) exchange {
	t.Helper()
	server, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(t, err)
	ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(t, err)
	x := exchange{server: server, params: EnvelopeParams{
		Version: v, Scope: ActivationScope, SharedInfo1: InfoCreateToken, ActivationID: "a",
		SharedInfo2: DeriveKeys([16]byte{1}).ActivationSharedInfo2([]byte("secret")),
	}}
	if v >= V33 {
		x.params.TemporaryKeyID = "5200278c-f7ce-4c33-b729-50afd3880ccd"
	}
	x.wire, x.client, err = SealRequest(ephemeral, server.PublicKey(), x.params, []byte(plaintext),
		Stamp{Nonce: [16]byte{1}, Timestamp: 1700000000000})
	require.NoError(t, err)
	return x
}

func (x *exchange) open(t *testing.T) (string, *Responder, error) {
	t.Helper()
	c, err := ParseEncryptedRequest(x.params.Version, x.wire)
	require.NoError(t, err)
	z, err := x.server.ECDH(c.EphemeralKey)
	require.NoError(t, err)
	plain, r, err := OpenRequest(z, x.params, c)
	return string(plain), r, err
}

func TestEnvelopeServesOneResponse(t *testing.T) {
	t.Parallel()
	for v := V30; v <= V33; v++ {
		x := newExchange(t, v, "question")
		plain, r, err := x.open(t)
		require.NoError(t, err)
		require.Equal(t, "question", plain)

		var first EncryptedResponse
		var sealed atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				resp, err := r.Seal([]byte("answer"), Stamp{Nonce: [16]byte{2}, Timestamp: 5})
				if err == nil {
					sealed.Add(1)
					first = resp
				} else if fault.Of(err) != ErrEnvelopeUsed {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, sealed.Load())
		require.Equal(t, [48]byte{}, r.e.keys)

		got, err := x.client.Open(first)
		require.NoError(t, err)
		require.Equal(t, "answer", string(got))
		_, err = x.client.Open(first)
		require.ErrorIs(t, err, ErrEnvelopeUsed)
	}
}

func TestEnvelopeResponseIsBoundToItsRequest(t *testing.T) {
	t.Parallel()
	for v := V30; v <= V33; v++ {
		x, y := newExchange(t, v, "question"), newExchange(t, v, "question")
		_, r, err := x.open(t)
		require.NoError(t, err)
		resp, err := r.Seal([]byte("answer"), Stamp{Nonce: [16]byte{2}, Timestamp: 5})
		require.NoError(t, err)
		_, err = y.client.Open(resp)
		require.ErrorIs(t, err, ErrEnvelopeOpen)
		_, err = y.client.Open(resp)
		require.ErrorIs(t, err, ErrEnvelopeUsed, "one attempt, also a failed one")
	}
}

func TestEnvelopeFieldsPerVersion(t *testing.T) {
	t.Parallel()
	text := func(s string) *string { return &s }
	number := func(n int64) *int64 { return &n }
	for _, tc := range []struct {
		name   string
		change func(*EncryptedRequest)
		bad    map[Version]string // version: field complained about
	}{
		{"nothing", func(*EncryptedRequest) {}, nil},
		{
			"no key", func(r *EncryptedRequest) { r.EphemeralPublicKey = nil },
			map[Version]string{V30: "ephemeralPublicKey", V31: "ephemeralPublicKey", V32: "ephemeralPublicKey", V33: "ephemeralPublicKey"},
		},
		{
			"key is no point", func(r *EncryptedRequest) { r.EphemeralPublicKey = text("AAAA") },
			map[Version]string{V30: "ephemeralPublicKey", V31: "ephemeralPublicKey", V32: "ephemeralPublicKey", V33: "ephemeralPublicKey"},
		},
		{
			"no data", func(r *EncryptedRequest) { r.EncryptedData = nil },
			map[Version]string{V30: "encryptedData", V31: "encryptedData", V32: "encryptedData", V33: "encryptedData"},
		},
		{
			"empty data", func(r *EncryptedRequest) { r.EncryptedData = text("") },
			map[Version]string{V30: "encryptedData", V31: "encryptedData", V32: "encryptedData", V33: "encryptedData"},
		},
		{
			"short mac", func(r *EncryptedRequest) { r.MAC = text("AAAA") },
			map[Version]string{V30: "mac", V31: "mac", V32: "mac", V33: "mac"},
		},
		{
			"no nonce", func(r *EncryptedRequest) { r.Nonce = nil },
			map[Version]string{V31: "nonce", V32: "nonce", V33: "nonce"},
		},
		{
			"empty nonce", func(r *EncryptedRequest) { r.Nonce = text("") },
			map[Version]string{V30: "nonce", V31: "nonce", V32: "nonce", V33: "nonce"},
		},
		{
			"a nonce", func(r *EncryptedRequest) { r.Nonce = text("9Bu5TYmJsXi+r1CA/jM08Q==") },
			map[Version]string{V30: "nonce"},
		},
		{
			"no timestamp", func(r *EncryptedRequest) { r.Timestamp = nil },
			map[Version]string{V32: "timestamp", V33: "timestamp"},
		},
		{
			"a timestamp", func(r *EncryptedRequest) { r.Timestamp = number(1) },
			map[Version]string{V30: "timestamp", V31: "timestamp"},
		},
		{
			"a timestamp before 1970", func(r *EncryptedRequest) { r.Timestamp = number(-1) },
			map[Version]string{V30: "timestamp", V31: "timestamp", V32: "timestamp", V33: "timestamp"},
		},
		{
			"no temporary key", func(r *EncryptedRequest) { r.TemporaryKeyID = nil },
			map[Version]string{V33: "temporaryKeyId"},
		},
		{
			"empty temporary key", func(r *EncryptedRequest) { r.TemporaryKeyID = text("") },
			map[Version]string{V30: "temporaryKeyId", V31: "temporaryKeyId", V32: "temporaryKeyId", V33: "temporaryKeyId"},
		},
	} {
		for v := V30; v <= V33; v++ {
			wire := newExchange(t, v, "question").wire
			tc.change(&wire)
			_, err := ParseEncryptedRequest(v, wire)
			field, bad := tc.bad[v]
			if !bad {
				require.NoError(t, err, "%s %s", tc.name, v)
				continue
			}
			require.ErrorIs(t, err, ErrEnvelopeFields, "%s %s", tc.name, v)
			require.Equal(t, field, fault.Of(err).Violations[0].Field, "%s %s", tc.name, v)
		}
	}
	_, err := ParseEncryptedRequest(0, EncryptedRequest{})
	require.ErrorIs(t, err, ErrEnvelopeParams)
}

func TestEnvelopeResponseFieldsPerVersion(t *testing.T) {
	t.Parallel()
	for v := V30; v <= V33; v++ {
		for name, change := range map[string]func(*EncryptedResponse){
			"no data": func(r *EncryptedResponse) { r.EncryptedData = nil },
			"no mac":  func(r *EncryptedResponse) { r.MAC = nil },
			"nonce": func(r *EncryptedResponse) {
				if r.Nonce == nil {
					r.Nonce = r.MAC
				} else {
					r.Nonce = nil
				}
			},
			"timestamp": func(r *EncryptedResponse) {
				if r.Timestamp == nil {
					r.Timestamp = new(int64)
				} else {
					r.Timestamp = nil
				}
			},
		} {
			x := newExchange(t, v, "question")
			_, r, err := x.open(t)
			require.NoError(t, err)
			resp, err := r.Seal(nil, Stamp{Timestamp: 5})
			require.NoError(t, err)
			require.Equal(t, v >= V32, resp.Nonce != nil && resp.Timestamp != nil)
			change(&resp)
			_, err = x.client.Open(resp)
			require.ErrorIs(t, err, ErrEnvelopeFields, "%s %s", name, v)
		}
	}
}

func TestEnvelopeParams(t *testing.T) {
	t.Parallel()
	good := EnvelopeParams{Version: V32, Scope: ActivationScope, SharedInfo1: InfoActivation, ActivationID: "a"}
	require.True(t, good.valid())
	for name, change := range map[string]func(*EnvelopeParams){
		"no version":                         func(p *EnvelopeParams) { p.Version = 0 },
		"no scope":                           func(p *EnvelopeParams) { p.Scope = 0 },
		"no purpose":                         func(p *EnvelopeParams) { p.SharedInfo1 = "" },
		"activation scope without id":        func(p *EnvelopeParams) { p.ActivationID = "" },
		"application scope with id":          func(p *EnvelopeParams) { p.Scope = ApplicationScope },
		"3.3 without temporary key":          func(p *EnvelopeParams) { p.Version = V33 },
		"temporary key before its time":      func(p *EnvelopeParams) { p.TemporaryKeyID = "x" },
		"another version than the request's": func(p *EnvelopeParams) { p.Version = V31 },
	} {
		x := newExchange(t, V32, "q")
		c, err := ParseEncryptedRequest(V32, x.wire)
		require.NoError(t, err)
		p := good
		change(&p)
		_, _, err = OpenRequest(make([]byte, 32), p, c)
		require.ErrorIs(t, err, ErrEnvelopeParams, name)
		_, _, err = OpenRequest(make([]byte, 31), good, c)
		require.ErrorIs(t, err, ErrEnvelopeParams, "short shared secret")
		if p.Version != V31 {
			_, _, err = SealRequest(x.server, x.server.PublicKey(), p, nil, Stamp{})
			require.ErrorIs(t, err, ErrEnvelopeParams, name)
		}
	}
}

// A device may send its ephemeral key compressed; the bytes that were sent enter
// the key derivation.
func TestEnvelopeWithCompressedKey(t *testing.T) {
	t.Parallel()
	x := newExchange(t, V32, "q")
	ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(t, err)
	full := ephemeral.PublicKey().Bytes()
	compressed := elliptic.MarshalCompressed(elliptic.P256(), new(big.Int).SetBytes(full[1:33]), new(big.Int).SetBytes(full[33:]))
	z, err := ephemeral.ECDH(x.server.PublicKey())
	require.NoError(t, err)
	x.wire, x.client = newEnvelope(z, compressed, x.params).sealRequest(compressed, []byte("q"), Stamp{})
	plain, _, err := x.open(t)
	require.NoError(t, err)
	require.Equal(t, "q", plain)
	x.wire.EphemeralPublicKey = base64Pointer(full)
	_, _, err = x.open(t)
	require.ErrorIs(t, err, ErrEnvelopeOpen)
}

func TestReplayValue(t *testing.T) {
	t.Parallel()
	c := Cryptogram{EphemeralBytes: []byte{1}, Nonce: []byte{2}}
	require.Equal(t, EncodeBase64([]byte{1, 2, 'i'}), c.Replay("i"))
	require.Equal(t, EncodeBase64([]byte{1, 2}), c.Replay(""))
}

func TestPaddingIsCheckedWhole(t *testing.T) {
	t.Parallel()
	var key, iv [16]byte
	for name, block := range map[string][16]byte{
		"zero":     {},
		"too long": {15: 17},
		"mixed":    {14: 1, 15: 2},
	} {
		b := block
		out := make([]byte, 16)
		encryptBlocks(&key, &iv, out, b[:])
		_, ok := decryptCBC(&key, &iv, out)
		require.False(t, ok, name)
	}
	for _, n := range []int{0, 15, 17} {
		_, ok := decryptCBC(&key, &iv, make([]byte, n))
		require.False(t, ok)
	}
}

func TestKeyParsers(t *testing.T) {
	t.Parallel()
	for _, b := range [][]byte{nil, {0}, make([]byte, 65), append([]byte{4}, make([]byte, 64)...), append([]byte{2}, make([]byte, 31)...)} {
		_, err := ParsePublicKey(b)
		require.ErrorIs(t, err, ErrPublicKey)
	}
	order := elliptic.P256().Params().N.Bytes()
	for _, b := range [][]byte{nil, {0}, order, append([]byte{1}, order...)} {
		_, err := ParsePrivateKey(b)
		require.ErrorIs(t, err, ErrPrivateKey)
	}
	key, err := ParsePrivateKey([]byte{5})
	require.NoError(t, err)
	require.Equal(t, []byte{5}, MarshalPrivateKey(key))
}

// Without a challenge the counter fields are filler and the IV is zero.
func TestStatusWithoutChallenge(t *testing.T) {
	t.Parallel()
	k := DeriveKeys([16]byte{1})
	s := Status{State: 3, CurrentVersion: 3, UpgradeVersion: 3, CounterByte: 7, FailedAttempts: 1, MaxFailedAttempts: 5, LookAhead: 20}
	var filler StatusRandom
	for i := range filler {
		filler[i] = byte(i)
	}
	blob := k.EncryptStatus(s, nil, &[16]byte{1}, &filler)
	got, err := k.DecryptStatus(blob[:], nil, nil)
	require.NoError(t, err)
	s.CounterByte, s.LookAhead, s.CounterHash = filler[5], filler[6], [16]byte(filler[7:])
	require.Equal(t, s, got)
	_, err = k.DecryptVaultKey(blob[:])
	require.ErrorIs(t, err, ErrVaultKey)
}

func encryptBlocks(key, iv *[16]byte, dst, src []byte) {
	cipher.NewCBCEncrypter(mustAES(key), iv[:]).CryptBlocks(dst, src)
}
