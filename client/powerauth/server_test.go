package powerauth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fakeServer is the server's side of an activation and of a two-factor signature,
// written a second time from the protocol's text with nothing of the kernel, so
// that an error in the kernel can not cancel itself out.
type fakeServer struct {
	t         *testing.T
	master    *ecdsa.PrivateKey
	server    *ecdh.PrivateKey
	appKey    string
	appSecret string
	version   string
	code      string
	ctr       []byte
	device    *ecdh.PublicKey
	got       map[string]any // layer 2 of the last activation
	layer1    map[string]any
	answer    func(http.ResponseWriter) bool // true when it answered
	spoil     func(layer2 map[string]any)
}

const fakeID = "6ae8cd16-67a7-4840-8d37-33d9aab6ea51"

func newFakeServer(t *testing.T, version string) (*fakeServer, Config) {
	t.Helper()
	master, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	server, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(t, err)
	s := &fakeServer{
		t: t, master: master, server: server, version: version, code: "NTF5I-R3KHV-SZN6E-ISYBA",
		appKey: "3rQw+ucVFWLK34nkkQwZ7Q==", appSecret: "6Sit4w2Otz95GSql2d1hZw==", ctr: []byte("0123456789abcdef"),
	}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	point, err := master.PublicKey.Bytes()
	require.NoError(t, err)
	return s, Config{
		BaseURL: h.URL + "/", ApplicationKey: s.appKey, ApplicationSecret: s.appSecret,
		MasterPublicKey: b64(point), HTTP: h.Client(),
	}
}

func (s *fakeServer) qr() string {
	digest := sha256.Sum256([]byte(s.code))
	der, err := ecdsa.SignASN1(rand.Reader, s.master, digest[:])
	require.NoError(s.t, err)
	return s.code + "#" + b64(der)
}

func (s *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.answer != nil && s.answer(w) {
		return
	}
	if err := s.activate(w, r); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"status":"ERROR","responseObject":{"code":"ERR_ACTIVATION","message":%q}}`, err)
	}
}

func (s *fakeServer) activate(w http.ResponseWriter, r *http.Request) error {
	want := fmt.Sprintf(`PowerAuth version="%s", application_key="%s"`, s.version, s.appKey)
	if r.Method != "POST" || r.URL.Path != "/pa/v3/activation/create" || r.Header.Get("X-PowerAuth-Encryption") != want ||
		r.Header.Get("Content-Type") != "application/json" {
		return fmt.Errorf("wrong request")
	}
	var outer map[string]any
	if err := json.NewDecoder(r.Body).Decode(&outer); err != nil {
		return err
	}
	plain, answer1, err := s.open(outer, "/pa/generic/application")
	if err != nil {
		return err
	}
	s.layer1 = map[string]any{}
	if err := json.Unmarshal(plain, &s.layer1); err != nil {
		return err
	}
	if s.layer1["activationType"] != "CODE" || s.layer1["identityAttributes"].(map[string]any)["code"] != s.code {
		return fmt.Errorf("wrong code")
	}
	plain, answer2, err := s.open(s.layer1["activationData"].(map[string]any), "/pa/activation")
	if err != nil {
		return err
	}
	s.got = map[string]any{}
	if err := json.Unmarshal(plain, &s.got); err != nil {
		return err
	}
	if s.device, err = ecdh.P256().NewPublicKey(unb64(s.got["devicePublicKey"].(string))); err != nil {
		return err
	}
	layer2 := map[string]any{
		"activationId": fakeID, "serverPublicKey": b64(s.server.PublicKey().Bytes()), "ctrData": b64(s.ctr),
	}
	if s.spoil != nil {
		s.spoil(layer2)
	}
	inner, _ := json.Marshal(layer2)
	middle, _ := json.Marshal(map[string]any{"activationData": answer2(inner), "customAttributes": map[string]any{}})
	return json.NewEncoder(w).Encode(answer1(middle))
}

// open decrypts one layer and returns the function that encrypts its answer.
func (s *fakeServer) open(m map[string]any, info string) ([]byte, func([]byte) map[string]any, error) {
	eph := unb64(m["ephemeralPublicKey"].(string))
	peer, err := ecdh.P256().NewPublicKey(eph)
	if err != nil {
		return nil, nil, err
	}
	master, err := s.master.ECDH()
	if err != nil {
		return nil, nil, err
	}
	z, err := master.ECDH(peer)
	if err != nil {
		return nil, nil, err
	}
	if s.version == "3.2" {
		info = s.version + info
	}
	var env []byte
	for i := uint32(1); len(env) < 48; i++ {
		block := sha256.Sum256([]byte(string(z) + string(binary.BigEndian.AppendUint32(nil, i)) + info + string(eph)))
		env = append(env, block[:]...)
	}
	var nonce []byte
	if s.version == "3.0" {
		if m["nonce"] != nil || m["timestamp"] != nil {
			return nil, nil, fmt.Errorf("3.0 with a nonce")
		}
	} else {
		nonce = unb64(m["nonce"].(string))
	}
	var timestamp uint64
	if s.version == "3.2" {
		timestamp = uint64(m["timestamp"].(float64))
	}
	data := unb64(m["encryptedData"].(string))
	if !hmac.Equal(unb64(m["mac"].(string)), s.mac(env, data, nonce, timestamp, eph)) {
		return nil, nil, fmt.Errorf("wrong mac")
	}
	block, _ := aes.NewCipher(env[:16])
	cipher.NewCBCDecrypter(block, s.iv(env, nonce)).CryptBlocks(data, data)
	data = data[:len(data)-int(data[len(data)-1])]
	return data, func(plain []byte) map[string]any {
		out := map[string]any{}
		ts := uint64(0)
		if s.version == "3.2" {
			nonce = []byte("a fresh nonce 16")
			ts = 1700000000001
			out["nonce"], out["timestamp"] = b64(nonce), ts
		}
		pad := 16 - len(plain)%16
		enc := append([]byte(nil), plain...)
		enc = append(enc, strings.Repeat(string(rune(pad)), pad)...)
		cipher.NewCBCEncrypter(block, s.iv(env, nonce)).CryptBlocks(enc, enc)
		out["encryptedData"], out["mac"] = b64(enc), b64(s.mac(env, enc, nonce, ts, nil))
		return out
	}, nil
}

func (s *fakeServer) iv(env, nonce []byte) []byte {
	iv := make([]byte, 16)
	if s.version == "3.0" {
		return iv
	}
	sum := stdHMAC(env[32:48], nonce)
	for i := range iv {
		iv[i] = sum[i] ^ sum[16+i]
	}
	return iv
}

func (s *fakeServer) mac(env, data, nonce []byte, timestamp uint64, eph []byte) []byte {
	si2 := sha256.Sum256([]byte(s.appSecret))
	if s.version != "3.2" {
		return stdHMAC(env[16:32], append(append([]byte(nil), data...), si2[:]...))
	}
	sized := func(parts ...[]byte) (out []byte) {
		for _, p := range parts {
			out = append(binary.BigEndian.AppendUint32(out, uint32(len(p))), p...)
		}
		return out
	}
	ad := sized([]byte(s.version), []byte(s.appKey))
	info := sized(si2[:], nonce, binary.BigEndian.AppendUint64(nil, timestamp), eph, ad)
	return stdHMAC(env[16:32], append(append([]byte(nil), data...), info...))
}

// verify checks a possession_knowledge signature of 3.1 or later at the expected
// counter and steps it.
func (s *fakeServer) verify(header, method, uriID string, body []byte) bool {
	f := map[string]string{}
	for _, m := range regexp.MustCompile(`(\w+)="([^"]*)"`).FindAllStringSubmatch(header, -1) {
		f[m[1]] = m[2]
	}
	if f["pa_activation_id"] != fakeID || f["pa_application_key"] != s.appKey || f["pa_signature_type"] != "possession_knowledge" {
		return false
	}
	z, err := s.server.ECDH(s.device)
	require.NoError(s.t, err)
	ms := make([]byte, 16)
	for i := range ms {
		ms[i] = z[i] ^ z[16+i]
	}
	derive := func(index byte) []byte {
		block, _ := aes.NewCipher(ms)
		out := make([]byte, 16)
		out[15] = index
		block.Encrypt(out, out)
		return out
	}
	data := []byte(method + "&" + b64([]byte(uriID)) + "&" + f["pa_nonce"] + "&" + b64(body) + "&" + s.appSecret)
	k0, k1 := stdHMAC(derive(1), s.ctr), stdHMAC(derive(2), s.ctr)
	want := b64(append(stdHMAC(k0, data)[16:], stdHMAC(stdHMAC(k1, k1), data)[16:]...))
	sum := sha256.Sum256(s.ctr)
	for i := range s.ctr {
		s.ctr[i] = sum[i] ^ sum[16+i]
	}
	return f["pa_signature"] == want
}

func (s *fakeServer) fingerprint() string {
	x := func(k *ecdh.PublicKey) []byte { return []byte(strings.TrimLeft(string(k.Bytes()[1:33]), "\x00")) }
	h := sha256.New()
	_, _ = h.Write(x(s.device))
	_, _ = io.WriteString(h, fakeID)
	_, _ = h.Write(x(s.server.PublicKey()))
	return fmt.Sprintf("%08d", binary.BigEndian.Uint32(h.Sum(nil)[28:])&0x7FFFFFFF%100_000_000)
}

func stdHMAC(key, data []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(data)
	return h.Sum(nil)
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func unb64(s string) []byte {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		panic(err) // net/http turns it into a failed request
	}
	return b
}
