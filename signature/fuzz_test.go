package signature

import (
	"bytes"
	"crypto/ecdh"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
)

const (
	seedHeader = `PowerAuth pa_version="3.1", pa_activation_id="908d325b-52b4-465b-8644-23cfa3604200", ` +
		`pa_application_key="3rQw+ucVFWLK34nkkQwZ7Q==", pa_nonce="9Bu5TYmJsXi+r1CA/jM08Q==", ` +
		`pa_signature_type="possession_knowledge", pa_signature="FAtTU/u28npye6UHxvn2QpRTEorNyiYqq7yksKhWYSI="`
	seedToken = `PowerAuth version="3.3", token_id="908d325b-52b4-465b-8644-23cfa3604200", ` +
		`token_digest="nQahoI6uk5azhNLLRCX1M8frlSbFt/4C/oyH4qHbIxk=", nonce="9Bu5TYmJsXi+r1CA/jM08Q==", timestamp="1700000000000"`
	seedEncryption = `PowerAuth version="3.2", application_key="3rQw+ucVFWLK34nkkQwZ7Q==", activation_id="908d325b-52b4-465b-8644-23cfa3604200"`
)

// seedHeaders adds a header and the ways in which headers break.
func seedHeaders(f *testing.F, good string) {
	f.Add(good)
	f.Add("")
	f.Add("PowerAuth")
	f.Add(strings.ReplaceAll(good, ", ", " "))
	f.Add(strings.ReplaceAll(good, ", ", ","))
	f.Add(strings.ReplaceAll(good, `"`, ""))
	f.Add(strings.ReplaceAll(good, "=\"", "= \""))
	f.Add(strings.Replace(good, `version="3.`, `version="`, 1))
	f.Add(good + `, nonce="", x=y`)
	f.Add(strings.ToLower(good))
	f.Add(strings.ReplaceAll(good, "==", ""))
}

// requireSentinel demands that a parser fails only with errors of this package.
func requireSentinel(t *testing.T, err error) {
	t.Helper()
	require.NotNil(t, fault.Of(err))
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}

// What was accepted must survive writing and reading. An
// unmatchable signature has no text of its own and is left out.
func FuzzParseHeader(f *testing.F) {
	seedHeaders(f, seedHeader)
	f.Add(strings.Replace(seedHeader, "FAtTU/u28npye6UHxvn2QpRTEorNyiYqq7yksKhWYSI=", "12345678-00000000", 1))
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHeader(s)
		if err != nil {
			requireSentinel(t, err)
			require.Equal(t, Header{}, h)
			return
		}
		require.True(t, h.Factors.Valid())
		require.True(t, h.Version.Valid())
		if h.Signature.Format() == Unmatchable {
			return
		}
		again, err := ParseHeader(h.String())
		require.NoError(t, err)
		require.Equal(t, h, again)
		require.Equal(t, h.String(), again.String())
	})
}

func FuzzParseTokenHeader(f *testing.F) {
	seedHeaders(f, seedToken)
	f.Add(strings.Replace(seedToken, "version", "pa_version", 1))
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseTokenHeader(s)
		if err != nil {
			requireSentinel(t, err)
			return
		}
		if h.Timestamp < 100_000_000 { // leading zeros: shorter when written again
			return
		}
		again, err := ParseTokenHeader(h.String())
		require.NoError(t, err)
		require.Equal(t, h, again)
	})
}

func FuzzParseEncryptionHeader(f *testing.F) {
	seedHeaders(f, seedEncryption)
	f.Fuzz(func(t *testing.T, s string) {
		accepted := 0
		for _, scope := range []Scope{ApplicationScope, ActivationScope} {
			h, err := ParseEncryptionHeader(s, scope)
			if err != nil {
				requireSentinel(t, err)
				continue
			}
			accepted++
			require.Equal(t, scope == ActivationScope, h.ActivationID != "")
			again, err := ParseEncryptionHeader(h.String(), scope)
			require.NoError(t, err)
			require.Equal(t, h, again)
		}
		require.LessOrEqual(t, accepted, 1, "a header fits one scope")
	})
}

func FuzzParseSignature(f *testing.F) {
	for _, s := range []string{
		"12345678", "12345678-12345678", "12345678-12345678-12345678", "1234-5678", "FAtTU/u28npye6UHxvn2Qg==",
		"FAtTU/u28npye6UHxvn2Qh==", "FAtTU/u28npye6UHxvn2QpRTEorNyiYqq7yksKhWYSI=", "1234567-123456789",
		"bojAgA/R8sVvqYBe6zy1BEY05ioE+A/biqGuJtDfsWXnBhCUyDThnynXs0A8STJl",
	} {
		f.Add(s, 8)
		f.Add(s, 4)
	}
	f.Fuzz(func(t *testing.T, s string, digits int) {
		if sig, err := ParseSignature(s); err != nil {
			requireSentinel(t, err)
		} else if sig.Format() != Unmatchable {
			require.Equal(t, s, sig.String(), "one value, one text")
		}
		if sig, err := ParseOfflineSignature(s, digits); err != nil {
			requireSentinel(t, err)
		} else {
			require.Equal(t, s, sig.String())
			require.Equal(t, sig.Components(), strings.Count(s, "-")+1)
		}
	})
}

func FuzzParseActivationQR(f *testing.F) {
	f.Add("NTF5I-R3KHV-SZN6E-ISYBA")
	f.Add("V42UC-HRMDV-VW57V-6LEYA#MEUCIQCCHgvOH0oomFD/2UKZlzvm")
	f.Add("23456-DEFGH-77777-77777")
	f.Add("ntf5i-r3khv-szn6e-isyba#")
	f.Fuzz(func(t *testing.T, s string) {
		code, der, err := ParseActivationQR(s)
		if err != nil {
			requireSentinel(t, err)
			return
		}
		random, err := ParseActivationCode(code)
		require.NoError(t, err)
		require.Equal(t, code, NewActivationCode(random), "one value, one text")
		if der != nil {
			again, sig, err := ParseActivationQR(ActivationQR(code, der))
			require.NoError(t, err)
			require.Equal(t, code, again)
			require.Equal(t, der, sig)
		}
	})
}

func FuzzNormalizeRawGET(f *testing.F) {
	for _, s := range []string{
		"", "a=1", "a=2&a=1", "x=%2B+%7E", "=&==", "%F0%9F%98%80=1&\uffff=2", "a=%", "%C3=1", "a&b", "k=\xff",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		norm, err := NormalizeRawGET(s)
		if err != nil {
			requireSentinel(t, err)
			return
		}
		again, err := NormalizeRawGET(string(norm))
		require.NoError(t, err)
		require.Equal(t, string(norm), string(again), "normal form is a fixed point")
		for _, c := range norm {
			require.True(t, isWord(c) || strings.IndexByte("%+.-*&=", c) >= 0)
		}
	})
}

func FuzzParseBase64(f *testing.F) {
	for _, s := range []string{"", "AA==", "AA", "AB==", "AAA=", "AAAA", "A", "AA=", "AA\n==", "A-_A", "====", "AA==AA=="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseBase64(s)
		want, errPadded := base64.StdEncoding.DecodeString(s)
		if errPadded != nil {
			want, errPadded = base64.RawStdEncoding.DecodeString(s)
		}
		if strings.ContainsAny(s, "\r\n") { // the standard library skips them
			require.ErrorIs(t, err, ErrBase64)
			return
		}
		require.Equal(t, errPadded == nil, err == nil)
		if err != nil {
			return
		}
		require.True(t, bytes.Equal(want, got))
		again, err := ParseBase64(EncodeBase64(got))
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}

func FuzzParsePublicKey(f *testing.F) {
	scalar := make([]byte, 32)
	scalar[31] = 7
	key, err := ecdh.P256().NewPrivateKey(scalar)
	require.NoError(f, err)
	full := key.PublicKey().Bytes()
	f.Add(full)
	f.Add(append([]byte{2 | full[64]&1}, full[1:33]...))
	f.Add(full[:64])
	f.Add([]byte{0})
	f.Add(make([]byte, 33))
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := ParsePublicKey(b)
		if err != nil {
			requireSentinel(t, err)
			return
		}
		full := key.Bytes()
		require.Len(t, full, 65)
		if len(b) == 65 {
			require.Equal(t, b, full)
		}
		compressed := elliptic.MarshalCompressed(elliptic.P256(),
			new(big.Int).SetBytes(full[1:33]), new(big.Int).SetBytes(full[33:]))
		again, err := ParsePublicKey(compressed)
		require.NoError(t, err)
		require.True(t, key.Equal(again))
	})
}

func FuzzParsePrivateKey(f *testing.F) {
	f.Add([]byte{1})
	f.Add(bytes.Repeat([]byte{0x80}, 32))
	f.Add(append([]byte{0}, bytes.Repeat([]byte{0xFE}, 32)...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := ParsePrivateKey(b)
		if err != nil {
			requireSentinel(t, err)
			return
		}
		again, err := ParsePrivateKey(MarshalPrivateKey(key))
		require.NoError(t, err)
		require.True(t, key.Equal(again))
	})
}

func FuzzParseEncryptedRequest(f *testing.F) {
	f.Add(uint8(V33), []byte(`{"temporaryKeyId":"5200278c-f7ce-4c33-b729-50afd3880ccd","ephemeralPublicKey":`+
		`"BK65EIncn1J7E/C/TQ/ecDxNZazDb+jRlHly5bqfY66vTur4Eni6O5s4OahwRmIYI55KwlFVmD9457cfi/Dbhho=","encryptedData":`+
		`"5vp8KFKzAS6CqpNM9mm+uQ==","mac":"B59yXUUyclSWOP/Kb0GeAT/dfhhKNosyXHCfG29z82g=","nonce":"c1bwIFPenpLt27/BKNbrIA==",`+
		`"timestamp":1795306649445}`))
	f.Add(uint8(V30), []byte(`{"ephemeralPublicKey":"BKaJpz6woL/P1w/A54WM1aPlB4wB+QIRYj/Wa3BKbCFH6SJiat+4xSYVRReA8H6ERzb7wS2b/8Qw7Fl9FnPqAFk=",`+
		`"encryptedData":"lH2Kd14nonmmJzmhPpGBaw==","mac":"VyXvRBH9VeiAYENk/ITzcHSxbFyK7baz8o247YOZ868=","nonce":null}`))
	f.Add(uint8(V31), []byte(`{"ephemeralPublicKey":"AA==","nonce":""}`))
	f.Add(uint8(V32), []byte(`{}`))
	f.Fuzz(func(t *testing.T, version uint8, text []byte) {
		var wire EncryptedRequest
		if json.Unmarshal(text, &wire) != nil || !Version(version).Valid() {
			return
		}
		c, err := ParseEncryptedRequest(Version(version), wire)
		if err != nil {
			requireSentinel(t, err)
			require.NotEmpty(t, fault.Of(err).Violations)
			return
		}
		p := EnvelopeParams{
			Version: c.Version, Scope: ApplicationScope, SharedInfo1: InfoApplication, TemporaryKeyID: c.TemporaryKeyID,
		}
		_, _, err = OpenRequest(make([]byte, 32), p, c) // a key that no fuzzer guesses
		require.ErrorIs(t, err, ErrEnvelopeOpen)
	})
}

// sealedEnvelope is a request that a device really sealed, with all that the
// server needs to open it.
type sealedEnvelope struct {
	params EnvelopeParams
	wire   EncryptedRequest
	text   string
	server *ecdh.PrivateKey
}

// sealedEnvelopes are one of each version and scope, the same in every process:
// so a corpus of them stays of use.
func sealedEnvelopes(f *testing.F) (out []sealedEnvelope) {
	f.Helper()
	scalar := func(n byte) *ecdh.PrivateKey {
		key, err := ecdh.P256().NewPrivateKey(append(make([]byte, 31), n))
		require.NoError(f, err)
		return key
	}
	for v := V30; v <= V33; v++ {
		for _, scope := range []Scope{ApplicationScope, ActivationScope} {
			n := byte(len(out))
			x := sealedEnvelope{
				text: `{"question":"which of them?","n":` + string('0'+n) + `}`, server: scalar(40 + n%2), // one per scope
				params: EnvelopeParams{
					Version: v, Scope: scope, SharedInfo1: InfoApplication, ApplicationKey: [16]byte{7},
					SharedInfo2: ApplicationSharedInfo2([]byte("secret")),
				},
			}
			if scope == ActivationScope {
				x.params.SharedInfo1, x.params.ActivationID = InfoActivation, "908d325b-52b4-465b-8644-23cfa3604200"
				x.params.SharedInfo2 = DeriveKeys([16]byte{1}).ActivationSharedInfo2([]byte("secret"))
			}
			if v >= V33 {
				x.params.TemporaryKeyID = "5200278c-f7ce-4c33-b729-50afd3880ccd"
			}
			var err error
			x.wire, _, err = SealRequest(scalar(20+n), x.server.PublicKey(), x.params, []byte(x.text),
				Stamp{Nonce: [16]byte{n, 1}, Timestamp: 1700000000000})
			require.NoError(f, err)
			out = append(out, x)
		}
	}
	return out
}

// An attacker has seen an envelope of each kind and sends what he likes to each
// kind of receiver: only what a device sealed for this one opens, and to nothing
// but what it sealed.
//
// One freedom is the protocol's own: 3.1 leaves the nonce, which only makes the
// IV, outside of the MAC, so that another nonce spoils the first block.
func FuzzEnvelope(f *testing.F) {
	sealed := sealedEnvelopes(f)
	for i, x := range sealed {
		text, err := json.Marshal(x.wire)
		require.NoError(f, err)
		for receiver := range sealed {
			f.Add(uint8(receiver), text)
		}
		data := *x.wire.EncryptedData
		f.Add(uint8(i), []byte(strings.Replace(string(text), data, "A"+data[1:], 1)))
		f.Add(uint8(i), []byte(strings.Replace(string(text), data, data[:len(data)-24]+"==", 1)))
		f.Add(uint8(i), []byte(strings.Replace(string(text), "1700000000000", "1700000000001", 1)))
		public := elliptic.MarshalCompressed(elliptic.P256(), elliptic.P256().Params().Gx, elliptic.P256().Params().Gy)
		f.Add(uint8(i), []byte(strings.Replace(string(text), *x.wire.EphemeralPublicKey, EncodeBase64(public), 1)))
	}
	f.Fuzz(func(t *testing.T, receiver uint8, text []byte) {
		var wire EncryptedRequest
		if json.Unmarshal(text, &wire) != nil {
			return
		}
		to := sealed[int(receiver)%len(sealed)]
		c, err := ParseEncryptedRequest(to.params.Version, wire)
		if err != nil {
			requireSentinel(t, err)
			return
		}
		z, err := to.server.ECDH(c.EphemeralKey)
		require.NoError(t, err, "a point that was accepted has a shared secret")
		p := to.params
		if p.Version >= V33 {
			p.TemporaryKeyID = c.TemporaryKeyID // the receiver looks the key up by it
		}
		plain, responder, err := OpenRequest(z, p, c)
		if err != nil {
			require.ErrorIs(t, err, ErrEnvelopeOpen)
			require.Nil(t, plain)
			require.Nil(t, responder)
			return
		}
		want, err := ParseEncryptedRequest(to.params.Version, to.wire)
		require.NoError(t, err)
		if to.params.Version == V31 && !bytes.Equal(want.Nonce, c.Nonce) {
			c.Nonce = want.Nonce
			require.Equal(t, to.text[16:], string(plain[16:]))
			plain = []byte(to.text)
		}
		require.Equal(t, want, c, "what opens is what was sealed")
		require.Equal(t, to.text, string(plain))
	})
}

// The same for the answer on its way back.
func FuzzEnvelopeAnswer(f *testing.F) {
	sealed := sealedEnvelopes(f)
	answers := make([]EncryptedResponse, len(sealed))
	stamp := Stamp{Nonce: [16]byte{9}, Timestamp: 1700000000001}
	for i, x := range sealed {
		c, err := ParseEncryptedRequest(x.params.Version, x.wire)
		require.NoError(f, err)
		z, err := x.server.ECDH(c.EphemeralKey)
		require.NoError(f, err)
		_, r, err := OpenRequest(z, x.params, c)
		require.NoError(f, err)
		answers[i], err = r.Seal([]byte(x.text), stamp)
		require.NoError(f, err)
		text, err := json.Marshal(answers[i])
		require.NoError(f, err)
		for receiver := range sealed {
			f.Add(uint8(receiver), text)
		}
	}
	f.Fuzz(func(t *testing.T, receiver uint8, text []byte) {
		var wire EncryptedResponse
		if json.Unmarshal(text, &wire) != nil {
			return
		}
		i := int(receiver) % len(sealed)
		x := sealed[i]
		ephemeral, err := ecdh.P256().NewPrivateKey(append(make([]byte, 31), 20+byte(i)))
		require.NoError(t, err)
		_, requester, err := SealRequest(ephemeral, x.server.PublicKey(), x.params, []byte(x.text), Stamp{Nonce: [16]byte{byte(i), 1}, Timestamp: 1700000000000})
		require.NoError(t, err)
		plain, err := requester.Open(wire)
		if err != nil {
			requireSentinel(t, err)
			require.Nil(t, plain)
			return
		}
		require.Equal(t, x.text, string(plain))
		for _, field := range [][2]*string{{wire.EncryptedData, answers[i].EncryptedData}, {wire.MAC, answers[i].MAC}, {wire.Nonce, answers[i].Nonce}} {
			require.Equal(t, field[1] == nil, field[0] == nil)
			if field[0] != nil {
				got, err := ParseBase64(*field[0])
				require.NoError(t, err)
				require.Equal(t, *field[1], EncodeBase64(got), "what opens is what was sealed")
			}
		}
		require.Equal(t, answers[i].Timestamp, wire.Timestamp)
	})
}
