package signature

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
)

func TestVectorHTTPSignatures(t *testing.T) {
	t.Parallel()
	type in struct {
		Method         string  `json:"method"`
		URIID          string  `json:"uriId"`
		Query          *string `json:"query"`
		Body           []byte  `json:"body"`
		Nonce          []byte  `json:"nonce"`
		ApplicationKey []byte  `json:"applicationKey"`
		Secret         string  `json:"applicationSecret"`
		Activation     string  `json:"activationId"`
		Version        string  `json:"version"`
		Type           string  `json:"signatureType"`
		Master         []byte  `json:"masterSecretKey"`
		Counter        []byte  `json:"ctrData"`
	}
	type out struct {
		Base      string `json:"signatureBaseString"`
		Signature string `json:"signature"`
		Next      []byte `json:"nextCtrData"`
		Header    string `json:"header"`
	}
	queries := 0
	for _, row := range load[in, out](t, "generated/http-signatures.json", 120).Data {
		if row.Input.Query != nil { // the row's body is already the normalised query
			body, err := NormalizeRawGET(*row.Input.Query)
			require.NoError(t, err)
			require.Equal(t, string(row.Input.Body), string(body))
			queries++
		}
		req := Request{
			Method: row.Input.Method, URIID: row.Input.URIID, Nonce: row.Input.Nonce,
			Body: row.Input.Body, Secret: []byte(row.Input.Secret),
		}
		require.Equal(t, row.Output.Base, string(AppendBaseString(nil, req)))

		k := DeriveKeys([16]byte(row.Input.Master))
		v, ok := ParseVersion(row.Input.Version)
		require.True(t, ok)
		f, ok := ParseFactors(row.Input.Type)
		require.True(t, ok)
		c := Counter(row.Input.Counter)
		require.Equal(t, row.Output.Next, c.nextBytes())
		sig := k.Sign(v, f, req, c)
		require.Equal(t, row.Output.Signature, sig.String())

		h, err := ParseHeader(row.Output.Header)
		require.NoError(t, err)
		require.Equal(t, Header{
			ActivationID: row.Input.Activation, ApplicationKey: [16]byte(row.Input.ApplicationKey),
			Nonce: [16]byte(row.Input.Nonce), Factors: f, Signature: sig, Version: v,
		}, h)
		require.Equal(t, row.Output.Header, h.String())

		m, ok := k.Verify(&h, req, c, 1)
		require.True(t, ok)
		require.Equal(t, Match{0, c.Next(), f}, m)

		for name, changed := range map[string]func(*Header, *Request){
			"method": func(_ *Header, r *Request) { r.Method += "X" },
			"uri id": func(_ *Header, r *Request) { r.URIID += "/" },
			"body":   func(_ *Header, r *Request) { r.Body = append([]byte{'x'}, r.Body...) },
			"secret": func(_ *Header, r *Request) { r.Secret = append([]byte{'x'}, r.Secret...) },
			"nonce":  func(h *Header, _ *Request) { h.Nonce[0] ^= 0x80 },
			"value":  func(h *Header, _ *Request) { h.Signature.raw[componentSize-1] ^= 1 },
		} {
			h, req := h, req
			changed(&h, &req)
			_, ok := k.Verify(&h, req, c, 2)
			require.False(t, ok, name)
		}
	}
	require.Equal(t, 21, queries)
}

func (c Counter) nextBytes() []byte { c = c.Next(); return c[:] }

func TestVectorGET(t *testing.T) {
	t.Parallel()
	failed, empty := 0, 0
	for _, row := range load[string, *string](t, "generated/get-canonicalization.json", 79).Data {
		got, err := NormalizeRawGET(row.Input)
		switch {
		case row.Output == nil:
			require.NoError(t, err)
			require.Nil(t, got, "%q", row.Input)
			empty++
		case strings.HasPrefix(*row.Output, "ERR"):
			require.ErrorIs(t, err, ErrQuery, "%q", row.Input)
			failed++
		default:
			require.NoError(t, err)
			require.Equal(t, *row.Output, string(got), "%q", row.Input)
			again, err := NormalizeRawGET(string(got))
			require.NoError(t, err)
			require.Equal(t, *row.Output, string(again))
			changed, err := NormalizeRawGET(row.Input + "&q=1")
			require.NoError(t, err)
			require.NotEqual(t, *row.Output, string(changed))
		}
	}
	require.Equal(t, 1, failed)
	require.Equal(t, 3, empty)
}

// parsedHeader is what the reference's tool printed: the fields in the order of
// its getters, "-" for an absent one.
type parsedHeader struct {
	Parsed     string `json:"parsed"`
	Validation string `json:"validation"`
}

// scanned joins the pairs of a header in that form.
func scanned(header string, keys ...string) string {
	found := map[string]string{}
	for p := newPairs(header); ; {
		k, v, ok := p.next()
		if !ok {
			break
		}
		found[k] = v
	}
	values := make([]string, len(keys))
	for i, k := range keys {
		if v, ok := found[k]; ok {
			values[i] = v
		} else {
			values[i] = "-"
		}
	}
	return strings.Join(values, " ")
}

func requireCode(t *testing.T, want string, err error, input string) {
	t.Helper()
	if want == "OK" {
		require.NoError(t, err, input)
		return
	}
	require.Error(t, err, input)
	require.Equal(t, want, fault.Of(err).Reason, input)
	require.Equal(t, fault.Invalid, fault.Of(err).Kind)
}

func TestVectorSignatureHeader(t *testing.T) {
	t.Parallel()
	codes := map[string]int{}
	for _, row := range load[string, parsedHeader](t, "generated/signature-header.json", 22).Data {
		require.Equal(t, row.Output.Parsed, scanned(row.Input, "pa_activation_id", "pa_application_key",
			"pa_nonce", "pa_signature_type", "pa_signature", "pa_version"))
		h, err := ParseHeader(row.Input)
		requireCode(t, row.Output.Validation, err, row.Input)
		codes[row.Output.Validation]++
		if err == nil {
			again, err := ParseHeader(h.String())
			require.NoError(t, err)
			require.Equal(t, h, again)
		}
	}
	require.Equal(t, map[string]int{
		"OK": 11, "POWER_AUTH_ACTIVATION_ID_EMPTY": 5, "POWER_AUTH_APPLICATION_INVALID": 1,
		"POWER_AUTH_NONCE_EMPTY": 1, "POWER_AUTH_SIGNATURE_INVALID": 2,
		"POWER_AUTH_SIGNATURE_TYPE_INVALID": 1, "POWER_AUTH_SIGNATURE_VERSION_INVALID": 1,
	}, codes)
}

func TestVectorTokenHeader(t *testing.T) {
	t.Parallel()
	codes := map[string]int{}
	for _, row := range load[string, parsedHeader](t, "generated/token-header.json", 9).Data {
		require.Equal(t, row.Output.Parsed, scanned(row.Input, "token_id", "token_digest", "nonce", "timestamp", "version"))
		h, err := ParseTokenHeader(row.Input)
		requireCode(t, row.Output.Validation, err, row.Input)
		codes[row.Output.Validation]++
		if err == nil {
			require.Equal(t, row.Input, h.String())
			other, err := ParseTokenHeader(strings.Replace(row.Input, "version=", "pa_version=", 1))
			require.NoError(t, err)
			require.Equal(t, h, other)
		}
	}
	require.Len(t, codes, 8)
}

func TestVectorTokenDigest(t *testing.T) {
	t.Parallel()
	type in struct {
		Version   string `json:"version"`
		Secret    []byte `json:"tokenSecret"`
		Nonce     []byte `json:"nonce"`
		Timestamp string `json:"timestamp"`
	}
	type out struct {
		Digest []byte `json:"tokenDigest"`
	}
	for _, row := range load[in, out](t, "generated/token-digest-v3.json", 50).Data {
		v, ok := ParseVersion(row.Input.Version)
		require.True(t, ok)
		ms, err := strconv.ParseInt(row.Input.Timestamp, 10, 64)
		require.NoError(t, err)
		h := TokenHeader{
			TokenID: "908d325b-52b4-465b-8644-23cfa3604200", Digest: [32]byte(row.Output.Digest),
			Nonce: [16]byte(row.Input.Nonce), Timestamp: ms, Version: v,
		}
		require.True(t, h.Verify(row.Input.Secret))
		parsed, err := ParseTokenHeader(h.String())
		require.NoError(t, err)
		require.Equal(t, h, parsed)
		h.Timestamp++
		require.False(t, h.Verify(row.Input.Secret))
		h.Timestamp--
		h.Digest[31] ^= 1
		require.False(t, h.Verify(row.Input.Secret))
		h.Digest[31] ^= 1
		row.Input.Secret[0] ^= 1
		require.False(t, h.Verify(row.Input.Secret))
	}
}

func TestVectorActivationCode(t *testing.T) {
	t.Parallel()
	good := 0
	for _, row := range load[string, bool](t, "generated/activation-code.json", 103).Data {
		random, err := ParseActivationCode(row.Input)
		if !row.Output {
			require.ErrorIs(t, err, ErrActivationCode)
			continue
		}
		good++
		require.NoError(t, err, row.Input)
		require.Equal(t, row.Input, NewActivationCode(random))
		// A CRC-16 finds every single changed character.
		for i := range len(row.Input) {
			b := []byte(row.Input)
			if b[i]++; b[i] == 'Z'+1 || b[i] == '8' {
				b[i] = 'A'
			}
			_, err := ParseActivationCode(string(b))
			require.ErrorIs(t, err, ErrActivationCode, string(b))
		}
	}
	require.Equal(t, 100, good)
	for code, ok := range map[string]bool{
		"23456-DEFGH-77777-77777": false, // printed as a sample in a manual, with a wrong CRC
		"NTF5I-R3KHV-SZN6E-ISYBA": true,
		"V42UC-HRMDV-VW57V-6LEYA": true,
	} {
		_, err := ParseActivationCode(code)
		require.Equal(t, ok, err == nil, code)
	}
}

func TestVectorActivationQR(t *testing.T) {
	t.Parallel()
	type in struct {
		Code    string `json:"activationCode"`
		Private []byte `json:"masterPrivateKey"`
		Public  []byte `json:"masterPublicKey"`
	}
	type out struct {
		Signature []byte `json:"activationSignature"`
	}
	for _, row := range load[in, out](t, "v3/verify-activation-data-signature-v3.json", 20).Data {
		code, der, err := ParseActivationQR(ActivationQR(row.Input.Code, row.Output.Signature))
		require.NoError(t, err)
		require.Equal(t, row.Input.Code, code)
		point := publicKey(t, row.Input.Public).Bytes()
		require.Equal(t, point, privateKey(t, row.Input.Private).PublicKey().Bytes())
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		require.NoError(t, err)
		digest := sha256.Sum256([]byte(code))
		require.True(t, ecdsa.VerifyASN1(key, digest[:], der))
		digest[0] ^= 1
		require.False(t, ecdsa.VerifyASN1(key, digest[:], der))
	}
}

type statusIn struct {
	Transport []byte `json:"transportKey"`
	Challenge []byte `json:"challenge"`
	Nonce     []byte `json:"nonce"`
	Blob      []byte `json:"encryptedStatusBlob"`
	Counter   []byte `json:"ctrData"`
}

func (in *statusIn) open(t *testing.T) (*Keys, Status) {
	t.Helper()
	k := &Keys{transport: [16]byte(in.Transport)}
	s, err := k.DecryptStatus(in.Blob, (*[16]byte)(in.Challenge), (*[16]byte)(in.Nonce))
	require.NoError(t, err)
	wrong := [16]byte(in.Challenge)
	wrong[0] ^= 1
	_, err = k.DecryptStatus(in.Blob, &wrong, (*[16]byte)(in.Nonce))
	require.ErrorIs(t, err, ErrStatusBlob)
	_, err = k.DecryptStatus(in.Blob[1:], (*[16]byte)(in.Challenge), (*[16]byte)(in.Nonce))
	require.ErrorIs(t, err, ErrStatusBlob)
	return k, s
}

func TestVectorStatusBlob(t *testing.T) {
	t.Parallel()
	type out struct {
		State     string `json:"activationStatus"`
		Current   string `json:"currentVersion"`
		Upgrade   string `json:"upgradeVersion"`
		Failed    string `json:"failedAttempts"`
		MaxFailed string `json:"maxFailedAttempts"`
		LookAhead string `json:"ctrLookAhead"`
		Byte      string `json:"ctrByte"`
		Hash      []byte `json:"ctrDataHash"`
		Distance  string `json:"counterDistance"`
	}
	for _, row := range load[statusIn, out](t, "v3/activation-status-blob-data.json", 8).Data {
		k, s := row.Input.open(t)
		steps, ok := k.CounterDistance(Counter(row.Input.Counter), s.CounterHash, 64)
		require.True(t, ok)
		n := func(b byte) string { return strconv.Itoa(int(b)) }
		require.Equal(t, row.Output, out{
			n(s.State), n(s.CurrentVersion), n(s.UpgradeVersion), n(s.FailedAttempts), n(s.MaxFailedAttempts),
			n(s.LookAhead), n(s.CounterByte), s.CounterHash[:], strconv.Itoa(steps),
		})
		_, ok = k.CounterDistance(Counter(row.Input.Counter).Next(), k.CounterHash(Counter(row.Input.Counter)), 64)
		require.False(t, ok, "the chain has no way back")
	}
}

func TestVectorStatusBlobOfServer(t *testing.T) {
	t.Parallel()
	type out struct {
		Decoded string `json:"decoded"`
	}
	for _, row := range load[statusIn, out](t, "generated/status-blob.json", 32).Data {
		k, s := row.Input.open(t)
		require.Equal(t, k.CounterHash(Counter(row.Input.Counter)), s.CounterHash)
		require.Equal(t, row.Output.Decoded, fmt.Sprintf("true %d %d %d %d %d %d %d %s", s.State, s.CurrentVersion,
			s.UpgradeVersion, s.CounterByte, s.FailedAttempts, s.MaxFailedAttempts, s.LookAhead,
			base64.StdEncoding.EncodeToString(s.CounterHash[:])))
		again := k.EncryptStatus(s, (*[16]byte)(row.Input.Challenge), (*[16]byte)(row.Input.Nonce), &StatusRandom{})
		back, err := k.DecryptStatus(again[:], (*[16]byte)(row.Input.Challenge), (*[16]byte)(row.Input.Nonce))
		require.NoError(t, err)
		require.Equal(t, s, back)
	}
}

func TestVectorStatusIV(t *testing.T) {
	t.Parallel()
	type out struct {
		IV []byte `json:"iv"`
	}
	for _, row := range load[statusIn, out](t, "v3/activation-status-blob-iv.json", 32).Data {
		k := &Keys{transport: [16]byte(row.Input.Transport)}
		iv := k.statusIV((*[16]byte)(row.Input.Challenge), (*[16]byte)(row.Input.Nonce))
		require.Equal(t, row.Output.IV, iv[:])
		swapped := k.statusIV((*[16]byte)(row.Input.Nonce), (*[16]byte)(row.Input.Challenge))
		require.NotEqual(t, row.Output.IV, swapped[:])
	}
}
