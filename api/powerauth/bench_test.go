package powerauth_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
	server "github.com/signet-hsm/signet/api"
	"github.com/signet-hsm/signet/api/internal/apitest"
	api "github.com/signet-hsm/signet/api/powerauth"
	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
	"github.com/signet-hsm/signet/token"
)

// BenchmarkServing measures the two hot calls against a bare JSON echo of the same
// bodies on the same HTTP server without our work: "served" answers from memory and
// is our own work of serving (credentials, strict decoding, metrics, mapping);
// "durable" has the whole installation behind it, on a database that syncs, and is
// what a caller gets. 64 kept connections from another process.
func BenchmarkServing(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as `signet serve` sets it
	in := apitest.NewDurable(b)
	limiter, err := access.NewLimiter(access.LimiterConfig{})
	require.NoError(b, err)
	config := api.Config{Registrations: in.Registrations, Basic: in.Basic, Tokens: in.Tokens, Limiter: limiter, Metrics: prometheus.NewRegistry()}
	memory := config
	memory.Registrations, memory.Tokens, memory.Metrics = known{in.Registrations}, knownTokens{in.Tokens}, prometheus.NewRegistry()
	echo, served, durable := listen(b, echoed{}), listen(b, part(b, memory)), listen(b, part(b, config))
	const callers = 64
	setup := driverSetup{Username: "shop", Password: in.Login(b, pgtest.Alpha, "shop", access.PAIntegration, "APP")}
	setup.phones(b, in, durable, callers)
	for _, kind := range []string{"token", "signature"} {
		b.Run(kind, func(b *testing.B) {
			apitest.Duel{
				Ways:    []apitest.Way{{Name: "echo", Addr: echo, Kind: kind}, {Name: "served", Addr: served, Kind: kind}, {Name: "durable", Addr: durable, Kind: kind}},
				Callers: callers, Setup: setup,
			}.Run(b)
		})
	}
}

// BenchmarkPath is a call from the parsed request to the written answer, without any
// transport and with a domain that answers from memory.
func BenchmarkPath(b *testing.B) {
	in := apitest.NewInstallation(b)
	limiter, err := access.NewLimiter(access.LimiterConfig{})
	require.NoError(b, err)
	h := server.Handler(part(b, api.Config{
		Registrations: known{in.Registrations}, Basic: in.Basic, Tokens: knownTokens{in.Tokens}, Limiter: limiter, Metrics: prometheus.NewRegistry(),
	}))
	password := in.Login(b, pgtest.Alpha, "shop", access.PAIntegration, "APP")
	token := signature.TokenHeader{TokenID: "8819ac31-ad29-40d1-ac60-1b54293abe61", Timestamp: 1700000000000, Version: signature.V33}.String()
	signed := signature.Header{ActivationID: "8819ac31-ad29-40d1-ac60-1b54293abe61", Factors: signature.Possession, Version: signature.V33}
	if signed.Signature, err = signature.ParseSignature("AAAAAAAAAAAAAAAAAAAAAA=="); err != nil {
		b.Fatal(err)
	}
	for name, body := range map[string]string{
		"token":     `{"authHeader":` + strconv.Quote(token) + `}`,
		"signature": `{"authHeader":` + strconv.Quote(signed.String()) + `,"method":"POST","uriId":"/pay","requestBody":"` + base64.StdEncoding.EncodeToString(benchBody) + `"}`,
	} {
		b.Run(name, func(b *testing.B) {
			in := strings.NewReader(body)
			r, err := http.NewRequestWithContext(b.Context(), "POST", "/v2/"+name+"/verify", io.NopCloser(in))
			require.NoError(b, err)
			r.ContentLength = int64(len(body))
			r.SetBasicAuth("shop", password)
			r.Header.Set("Content-Type", "application/json")
			w := &nowhere{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				in.Reset(body)
				h.ServeHTTP(w, r)
				if w.status != 200 {
					b.Fatal(w.status)
				}
			}
		})
	}
}

type nowhere struct {
	header http.Header
	status int
}

func (w *nowhere) Header() http.Header         { return w.header }
func (w *nowhere) WriteHeader(status int)      { w.status = status }
func (w *nowhere) Write(b []byte) (int, error) { return len(b), nil }

const benchURI = "/pay"

var benchBody = []byte(`{"amount":"100.00","currency":"CZK","account":"CZ6508000000192000145399"}`)

// known answers as a domain would that knows everything by heart.
type known struct{ api.Registrations }

func (known) Verify(_ context.Context, _ tenant.ID, r registration.VerifyRequest) (registration.Verdict, error) {
	return registration.Verdict{
		Valid: true, ID: r.Header.ActivationID, Status: registration.StateActive, Factors: r.Header.Factors,
		Judged: true, UserID: "user-1", App: "APP", Roles: []string{"ROLE"}, RemainingAttempts: 5,
	}, nil
}

type knownTokens struct{ api.Tokens }

func (knownTokens) Verify(_ context.Context, _ tenant.ID, r token.VerifyRequest) (token.Verdict, error) {
	return token.Verdict{
		Valid: true, Judged: true, RegistrationID: r.Header.TokenID, Status: registration.StateActive,
		Factors: signature.Possession, UserID: "user-1", App: "APP", Roles: []string{"ROLE"},
	}, nil
}

// echoed reads the body and answers what ours would, without our path.
type echoed struct{}

func (echoed) Mount(mux *http.ServeMux) {
	type application struct {
		Name  string   `json:"name"`
		Roles []string `json:"roles"`
	}
	answer := func(w http.ResponseWriter, r *http.Request, in, out any) {
		raw, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(raw, in)
		}
		body, bad := json.Marshal(out)
		if err = errors.Join(err, bad); err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}
	mux.HandleFunc("POST /v2/token/verify", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			AuthHeader string `json:"authHeader"`
		}
		answer(w, r, &in, struct {
			Application        application `json:"application"`
			Flags              []string    `json:"flags"`
			RegistrationID     string      `json:"registrationId"`
			RegistrationStatus string      `json:"registrationStatus"`
			SignatureType      string      `json:"signatureType"`
			TokenValid         bool        `json:"tokenValid"`
			UserID             string      `json:"userId"`
		}{application{"APP", []string{"ROLE"}}, nil, "8819ac31-ad29-40d1-ac60-1b54293abe61", "ACTIVE", "POSSESSION", true, "user-1"})
	})
	mux.HandleFunc("POST /v2/signature/verify", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Method      string `json:"method"`
			URIID       string `json:"uriId"`
			AuthHeader  string `json:"authHeader"`
			RequestBody string `json:"requestBody"`
		}
		answer(w, r, &in, struct {
			Application        application `json:"application"`
			Flags              []string    `json:"flags"`
			RegistrationID     string      `json:"registrationId"`
			RegistrationStatus string      `json:"registrationStatus"`
			RemainingAttempts  int         `json:"remainingAttempts"`
			SignatureType      string      `json:"signatureType"`
			SignatureValid     bool        `json:"signatureValid"`
			UserID             string      `json:"userId"`
		}{application{"APP", []string{"ROLE"}}, nil, "8819ac31-ad29-40d1-ac60-1b54293abe61", "ACTIVE", 5, "POSSESSION_KNOWLEDGE", true, "user-1"})
	})
}

func part(b *testing.B, c api.Config) server.Part {
	b.Helper()
	p, err := api.New(c)
	require.NoError(b, err)
	return p
}

func listen(b *testing.B, p server.Part) string {
	b.Helper()
	s, err := server.NewServer(server.ServerConfig{Handler: server.Handler(p)})
	require.NoError(b, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	go func() { _ = s.Serve(l) }()
	b.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

// driverSetup is what the driver process is told.
type driverSetup struct {
	Username, Password  string
	Key, Secret, Master string // of the application
	Phones              []stdjson.RawMessage
	Tokens              []powerauth.Token
}

func (s *driverSetup) config(addr string) powerauth.Config {
	return powerauth.Config{BaseURL: "http://" + addr, ApplicationKey: s.Key, ApplicationSecret: s.Secret, MasterPublicKey: s.Master, Version: signature.V33}
}

// phones makes ACTIVE devices with a token each.
func (s *driverSetup) phones(b *testing.B, in *apitest.Installation, addr string, n int) {
	b.Helper()
	v := in.Versions["alpha/APP"]
	s.Key, s.Secret = base64.StdEncoding.EncodeToString(v.Key[:]), string(v.Secret.Reveal())
	s.Master = base64.StdEncoding.EncodeToString(in.Masters["alpha/APP"])
	for i := range n {
		made, err := in.Registrations.Create(b.Context(), pgtest.Alpha, registration.CreateParams{Apps: []string{"APP"}, App: "APP", UserID: fmt.Sprint("user-", i)})
		require.NoError(b, err)
		d, err := powerauth.New(s.config(addr))
		require.NoError(b, err)
		require.NoError(b, d.Activate(b.Context(), made.QRCodeData, powerauth.ActivateOptions{Platform: "ios"}))
		require.NoError(b, in.Registrations.Commit(b.Context(), pgtest.Alpha, registration.CommitParams{Apps: []string{"APP"}, ID: made.ID}))
		held, err := d.CreateToken(b.Context(), signature.Possession)
		require.NoError(b, err)
		raw, err := d.Export()
		require.NoError(b, err)
		s.Phones, s.Tokens = append(s.Phones, raw), append(s.Tokens, held)
	}
}

// driver makes the callers of one way, in the driver process. It speaks HTTP/1.1 by
// hand: a whole client costs more than the server that is measured.
func driver(w apitest.Way, n int, raw stdjson.RawMessage) ([]apitest.Caller, error) {
	var s driverSetup
	if err := stdjson.Unmarshal(raw, &s); err != nil {
		return nil, err
	}
	login := base64.StdEncoding.EncodeToString([]byte(s.Username + ":" + s.Password))
	path := map[string]string{"token": "/v2/token/verify", "signature": "/v2/signature/verify"}[w.Kind]
	head := "POST " + path + " HTTP/1.1\r\nHost: signet\r\nAuthorization: Basic " + login + "\r\nContent-Type: application/json\r\nContent-Length: "
	content := base64.StdEncoding.EncodeToString(benchBody)
	good := []byte(`Valid":true`)
	callers := make([]apitest.Caller, n)
	for i := range callers {
		d, err := powerauth.Import(s.config("unused"), s.Phones[i])
		if err != nil {
			return nil, err
		}
		conn, err := net.Dial("tcp", w.Addr)
		if err != nil {
			return nil, err
		}
		in := bufio.NewReader(conn)
		var out, body []byte
		callers[i] = func() error {
			var header string
			var err error
			if w.Kind == "token" {
				header, err = d.TokenHeader(s.Tokens[i])
			} else {
				header, err = d.Sign("POST", benchURI, benchBody, signature.PossessionKnowledge)
			}
			if err != nil {
				return err
			}
			body = append(body[:0], `{"authHeader":`...)
			body = strconv.AppendQuote(body, header)
			if w.Kind == "signature" {
				body = append(body, `,"method":"POST","uriId":"`+benchURI+`","requestBody":"`+content+`"`...)
			}
			body = append(body, '}')
			out = append(out[:0], head...)
			out = strconv.AppendInt(out, int64(len(body)), 10)
			out = append(append(out, "\r\n\r\n"...), body...)
			if _, err := conn.Write(out); err != nil {
				return err
			}
			answer, err := readAnswer(in)
			if err == nil && !bytes.Contains(answer, good) {
				err = fmt.Errorf("wrong verdict: %s", answer)
			}
			return err
		}
	}
	return callers, nil
}

func readAnswer(in *bufio.Reader) ([]byte, error) {
	length, status := 0, ""
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		text := strings.TrimRight(string(line), "\r\n")
		switch {
		case status == "":
			status = text
		case text == "":
			body := make([]byte, length)
			_, err := io.ReadFull(in, body)
			if err == nil && !strings.HasPrefix(status, "HTTP/1.1 200") {
				err = fmt.Errorf("%s: %s", status, body)
			}
			return body, err
		case strings.HasPrefix(text, "Content-Length: "):
			if length, err = strconv.Atoi(text[16:]); err != nil {
				return nil, err
			}
		}
	}
}
