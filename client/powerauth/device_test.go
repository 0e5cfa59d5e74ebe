package powerauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/testvec"
	"github.com/signet-hsm/signet/signature"
)

func TestActivateAndSign(t *testing.T) {
	t.Parallel()
	for v, name := range map[signature.Version]string{signature.V30: "3.0", signature.V31: "3.1", signature.V32: "3.2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, config := newFakeServer(t, name)
			config.Version = v
			d, err := New(config)
			require.NoError(t, err)
			require.Empty(t, d.ActivationID())
			require.Empty(t, d.Fingerprint())
			_, err = d.Sign("POST", "/x", nil, signature.Possession)
			require.ErrorIs(t, err, ErrNotActive)
			_, err = d.Export()
			require.ErrorIs(t, err, ErrNotActive)

			require.NoError(t, d.Activate(context.Background(), s.qr(), ActivateOptions{
				Name: "My phone", OTP: "1234", Platform: "ios", DeviceInfo: "model", Extras: "e",
				CustomAttributes: map[string]any{"a": "b"},
			}))
			delete(s.got, "devicePublicKey")
			require.Equal(t, map[string]any{
				"activationName": "My phone", "activationOtp": "1234", "platform": "ios", "deviceInfo": "model", "extras": "e",
			}, s.got)
			require.Equal(t, map[string]any{"a": "b"}, s.layer1["customAttributes"])
			require.Equal(t, fakeID, d.ActivationID())
			require.Equal(t, s.fingerprint(), d.Fingerprint())
			require.ErrorIs(t, d.Activate(context.Background(), s.qr(), ActivateOptions{}), ErrActivated)

			if v == signature.V30 { // decimal signatures have their vectors below
				return
			}
			body := []byte(`{"a":1}`)
			for range 3 {
				header, err := d.Sign("POST", "/operation/authorize", body, signature.PossessionKnowledge)
				require.NoError(t, err)
				require.True(t, s.verify(header, "POST", "/operation/authorize", body))
			}
			header, err := d.SignGET("/operation/list", map[string]string{"b": "ž", "a": "1 2"}, signature.PossessionKnowledge)
			require.NoError(t, err)
			require.True(t, s.verify(header, "GET", "/operation/list", []byte("a=1+2&b=%C5%BE")))

			// The state goes on elsewhere, at the same counter.
			exported, err := d.Export()
			require.NoError(t, err)
			other, err := Import(config, exported)
			require.NoError(t, err)
			require.Equal(t, d.Fingerprint(), other.Fingerprint())
			header, err = other.Sign("PUT", "/x", nil, signature.PossessionKnowledge)
			require.NoError(t, err)
			require.True(t, s.verify(header, "PUT", "/x", nil))
			header, err = d.Sign("PUT", "/x", nil, signature.PossessionKnowledge)
			require.NoError(t, err)
			require.False(t, s.verify(header, "PUT", "/x", nil), "the older copy is one step behind")
		})
	}
}

func TestActivateByTypedCode(t *testing.T) {
	t.Parallel()
	s, config := newFakeServer(t, "3.2")
	d, err := New(config)
	require.NoError(t, err)
	require.NoError(t, d.Activate(context.Background(), s.code, ActivateOptions{}))
	require.Len(t, s.got, 1, "empty options are not sent")
}

func TestActivateRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil func(*fakeServer, *Config, *string)
		want  error
	}{
		"a code with a typing error": {func(_ *fakeServer, _ *Config, code *string) { *code = "NTF5I-R3KHV-SZN6E-ISYBB" }, signature.ErrActivationCode},
		"a signature of another code": {func(s *fakeServer, _ *Config, code *string) {
			*code = "V42UC-HRMDV-VW57V-6LEYA" + (*code)[23:]
		}, ErrQRSignature},
		"no server": {func(s *fakeServer, c *Config, _ *string) { c.BaseURL = "http://127.0.0.1:1" }, nil},
		"an answer that is no JSON": {func(s *fakeServer, _ *Config, _ *string) {
			s.answer = func(w http.ResponseWriter) bool { _, _ = w.Write([]byte("<html>")); return true }
		}, ErrProtocol},
		"an answer in clear": {func(s *fakeServer, _ *Config, _ *string) {
			s.answer = func(w http.ResponseWriter) bool { _, _ = w.Write([]byte(`{"activationId":"x"}`)); return true }
		}, ErrProtocol},
		"no activation id": {func(s *fakeServer, _ *Config, _ *string) {
			s.spoil = func(m map[string]any) { delete(m, "activationId") }
		}, ErrProtocol},
		"a server key off the curve": {func(s *fakeServer, _ *Config, _ *string) {
			s.spoil = func(m map[string]any) { m["serverPublicKey"] = b64(append([]byte{4}, make([]byte, 64)...)) }
		}, ErrProtocol},
		"a short counter": {func(s *fakeServer, _ *Config, _ *string) {
			s.spoil = func(m map[string]any) { m["ctrData"] = "AAAA" }
		}, ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, config := newFakeServer(t, "3.2")
			code := s.qr()
			tc.spoil(s, &config, &code)
			d, err := New(config)
			require.NoError(t, err)
			err = d.Activate(context.Background(), code, ActivateOptions{})
			require.Error(t, err)
			if tc.want != nil {
				require.ErrorIs(t, err, tc.want)
			}
			require.Empty(t, d.ActivationID())
		})
	}
}

func TestActivateShowsTheServersError(t *testing.T) {
	t.Parallel()
	s, config := newFakeServer(t, "3.2")
	s.code = "V42UC-HRMDV-VW57V-6LEYA"
	d, err := New(config)
	require.NoError(t, err)
	err = d.Activate(context.Background(), "NTF5I-R3KHV-SZN6E-ISYBA", ActivateOptions{})
	var se *ServerError
	require.True(t, errors.As(err, &se))
	require.Equal(t, ServerError{400, "ERR_ACTIVATION", "wrong code"}, *se)

	config.ApplicationSecret = "AAAAAAAAAAAAAAAAAAAAAA==" // the server can not open the envelope
	d, err = New(config)
	require.NoError(t, err)
	require.True(t, errors.As(d.Activate(context.Background(), s.qr(), ActivateOptions{}), &se))
	require.Equal(t, "wrong mac", se.Message)
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, good := newFakeServer(t, "3.2")
	for name, change := range map[string]func(*Config){
		"url":     func(c *Config) { c.BaseURL = "here" },
		"key":     func(c *Config) { c.ApplicationKey = "AAAA" },
		"secret":  func(c *Config) { c.ApplicationSecret = "?" },
		"master":  func(c *Config) { c.MasterPublicKey = "AAAA" },
		"version": func(c *Config) { c.Version = 9 },
	} {
		c := good
		change(&c)
		_, err := New(c)
		require.ErrorIs(t, err, ErrConfig, name)
		_, err = Import(c, nil)
		require.ErrorIs(t, err, ErrConfig, name)
	}
	for _, text := range []string{
		``, `{}`, `{"devicePrivateKey":"?"}`, `{"devicePrivateKey":"AA=="}`, `{"activationId":"a","devicePrivateKey":"BQ=="}`,
	} {
		_, err := Import(good, []byte(text))
		require.ErrorIs(t, err, ErrState, text)
	}
}

// A counter serves one signature, also under concurrency.
func TestConcurrentSignaturesUseDifferentCounters(t *testing.T) {
	t.Parallel()
	s, config := newFakeServer(t, "3.2")
	d, err := New(config)
	require.NoError(t, err)
	require.NoError(t, d.Activate(context.Background(), s.code, ActivateOptions{}))
	keys, first := d.activation.keys, signature.Counter(s.ctr)
	var mu sync.Mutex
	offsets := map[int]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				text, err := d.Sign("POST", "/x", nil, signature.PossessionKnowledgeBiometry)
				if err != nil {
					t.Error(err)
					return
				}
				h, err := signature.ParseHeader(text)
				if err != nil {
					t.Error(err)
					return
				}
				m, ok := keys.Verify(&h, signature.Request{Method: "POST", URIID: "/x", Secret: d.secret}, first, 20)
				if !ok {
					t.Error("no match")
				}
				mu.Lock()
				offsets[m.Offset] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Len(t, offsets, 20)
	_, err = d.Sign("POST", "/x", nil, signature.Knowledge|signature.Biometry)
	require.ErrorIs(t, err, ErrFactors)
}

func TestDevicePrintsNothing(t *testing.T) {
	t.Parallel()
	_, config := newFakeServer(t, "3.2")
	d, err := New(config)
	require.NoError(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
		require.Equal(t, "powerauth.Device[redacted]", fmt.Sprintf(verb, d))
	}
}

// The device writes the very header of the reference for every generated request.
func TestVectorHeaders(t *testing.T) {
	t.Parallel()
	type row struct {
		Input struct {
			Method, URIID, Version string
			Query                  *string
			Body, Nonce            []byte
			ApplicationKey         string
			ApplicationSecret      string
			ActivationID           string
			SignatureType          string
			MasterSecretKey        []byte
			CtrData                []byte
		}
		Output struct {
			Header      string
			NextCtrData []byte
		}
	}
	rows := testvec.JSON[struct{ Data []row }](t, "powerauth/generated/http-signatures.json").Data
	require.Len(t, rows, 120)
	_, config := newFakeServer(t, "3.2")
	for _, row := range rows {
		in := row.Input
		c := config
		c.ApplicationKey, c.ApplicationSecret = in.ApplicationKey, in.ApplicationSecret
		var ok bool
		c.Version, ok = signature.ParseVersion(in.Version)
		require.True(t, ok)
		d, err := New(c)
		require.NoError(t, err)
		d.random = bytes.NewReader(in.Nonce)
		d.activation = &activation{
			id: in.ActivationID, keys: signature.DeriveKeys([16]byte(in.MasterSecretKey)), counter: signature.Counter(in.CtrData),
		}
		f, ok := signature.ParseFactors(in.SignatureType)
		require.True(t, ok)
		header, err := d.Sign(in.Method, in.URIID, in.Body, f)
		require.NoError(t, err)
		require.Equal(t, row.Output.Header, header)
		require.Equal(t, row.Output.NextCtrData, d.activation.counter[:])
		_, err = d.Sign(in.Method, in.URIID, in.Body, f)
		require.Error(t, err, "no randomness, no signature")
		require.Equal(t, row.Output.NextCtrData, d.activation.counter[:], "and no counter is spent")
	}
}

// Key pairs of the reference give its fingerprint, through Import.
func TestVectorFingerprints(t *testing.T) {
	t.Parallel()
	type row struct {
		Input  struct{ DevicePrivateKey, ServerPublicKey, ActivationID string }
		Output struct{ Fingerprint string }
	}
	rows := testvec.JSON[struct{ Data []row }](t, "powerauth/generated/activation-keys.json").Data
	require.Len(t, rows, 25)
	_, config := newFakeServer(t, "3.2")
	for _, row := range rows {
		text := fmt.Sprintf(`{"activationId":%q,"devicePrivateKey":%q,"serverPublicKey":%q,"ctrData":"9Bu5TYmJsXi+r1CA/jM08Q=="}`,
			row.Input.ActivationID, row.Input.DevicePrivateKey, row.Input.ServerPublicKey)
		d, err := Import(config, []byte(text))
		require.NoError(t, err)
		require.Equal(t, row.Output.Fingerprint, d.Fingerprint())
		again, err := d.Export()
		require.NoError(t, err)
		require.JSONEq(t, text, string(again))
	}
}

func TestSignOffline(t *testing.T) {
	t.Parallel()
	s, config := newFakeServer(t, "3.2")
	d, err := New(config)
	require.NoError(t, err)
	o := Offline{OperationID: "id", Data: "A2", Nonce: [16]byte{1}, TOTP: "12345678"}
	_, err = d.SignOffline(o, signature.PossessionKnowledge)
	require.ErrorIs(t, err, ErrNotActive)
	require.NoError(t, d.Activate(context.Background(), s.code, ActivateOptions{}))
	counter := d.activation.counter
	text, err := d.SignOffline(o, signature.PossessionKnowledge)
	require.NoError(t, err)
	require.Regexp(t, `^\d{8}-\d{8}$`, text)
	sig, err := signature.ParseOfflineSignature(text, 8)
	require.NoError(t, err)
	_, ok := d.activation.keys.VerifyOffline(&sig, signature.Request{
		Method: "POST", URIID: "/operation/authorize/offline", Nonce: o.Nonce[:],
		Body: []byte("id&A2&12345678"), Secret: []byte("offline"),
	}, counter, 1, false)
	require.True(t, ok)
	o.Digits, o.TOTP = 4, ""
	text, err = d.SignOffline(o, signature.PossessionBiometry)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(text, "-"))
	require.Len(t, text, 9)
	o.Digits = 3
	_, err = d.SignOffline(o, signature.PossessionBiometry)
	require.ErrorIs(t, err, signature.ErrDigits)
	_, err = d.SignOffline(o, 0)
	require.ErrorIs(t, err, ErrFactors)
}
