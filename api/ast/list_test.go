package ast_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/internal/testvec"
)

func filtered(text string) string { return "?filter=" + url.QueryEscape(text) }

type certificate struct {
	CertRef     string    `json:"certRef"`
	Status      string    `json:"status"`
	Signer      string    `json:"signer"`
	User        string    `json:"user"`
	Client      string    `json:"client"`
	CertProfile string    `json:"certProfile"`
	RequestedAt time.Time `json:"requestedAt"`
	IssuedAt    time.Time `json:"issuedAt"`
}

// device issues a certificate behind the API's back.
func (w *world) device(user, client string) ca.Certificate {
	w.tb.Helper()
	c, err := w.Authority.IssueDevice(w.tb.Context(), pgtest.Alpha, ca.IssueRequest{CSR: newCSR(w.tb), User: user, Client: client, Actor: "test"})
	require.NoError(w.tb, err)
	return c
}

func TestCA01_CA02_FirstVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 404, w.call("CA-01", w.reader, "alpha", "").Code, "no signer yet")
	var made signer
	rec := w.call("CA-02", w.writer, "alpha", `{"name":"signer"}`)
	w.into(rec, 201, &made)
	require.Equal(t, "/v2/tenants/alpha/signers/"+made.ID, rec.Header().Get("Location"))
	require.Equal(t, "signer", made.Name)
	require.Equal(t, "ACTIVE", made.State)
	old, now := w.call("CA-01", w.reader, "alpha", ""), w.call("CA-07", w.reader, "alpha", "", "current")
	require.Equal(t, 200, old.Code)
	require.Equal(t, now.Body.String(), old.Body.String(), "the alias answers what current answers")
	w.into(w.call("CA-02", w.writer, "alpha", `{"name":"next"}`), 201, &made)
	require.Equal(t, 1, made.Generation)
	require.Contains(t, w.call("CA-01", w.reader, "alpha", "").Body.String(), made.ID)
}

func TestCA05_Filter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var made signer
	for _, name := range []string{"SignerA-0", "signera-1", "100% _sure_", "ÜBER"} {
		w.into(w.call("CA-06", w.writer, "alpha", fmt.Sprintf(`{"name":%q}`, name)), 201, &made)
	}
	w.into(w.call("CA-06", w.betaWriter, "beta", `{"name":"SignerA-0"}`), 201, &made)
	var all []signer
	w.into(w.call("CA-05", w.reader, "alpha", ""), 200, &all)
	for text, want := range map[string][]int{
		"":                             {3, 2, 1, 0},
		"name^=SignerA-":               {0},
		"name ^= SignerA- [i]":         {1, 0},
		`name*="% _"`:                  {2},
		"name='über'[i]":               {3},
		"state=ACTIVE or generation=0": {3, 0},
		"state=null":                   {},
		"id in {" + all[1].ID + ", x}": {2},
		"createdAt>='" + all[1].CreatedAt.Format(time.RFC3339Nano) + "'": {3, 2},
		"name !in {'SignerA-0', ÜBER}":                                   nil, // Ü needs quotes
		"name !in {'SignerA-0', 'ÜBER'}":                                 {2, 1},
	} {
		rec := w.call("CA-05", w.reader, "alpha", "", filtered(text))
		if want == nil {
			require.Equal(t, 400, rec.Code, text)
			continue
		}
		var list []signer
		w.into(rec, 200, &list)
		got := []int{}
		for _, s := range list {
			got = append(got, s.Generation)
			require.Equal(t, "alpha", s.Tenant)
		}
		require.Equal(t, want, got, text)
		require.Equal(t, fmt.Sprint(len(want)), rec.Header().Get("X-Total-Count"), text)
	}
	rec := w.call("CA-05", w.reader, "alpha", "", filtered("state=RETIRED")+"&page=2&page_size=5")
	require.JSONEq(t, `[]`, rec.Body.String(), "a page behind the last is empty")
	require.Equal(t, "3", rec.Header().Get("X-Total-Count"))

	for text, want := range map[string]string{
		"nam=x":           "UnknownProperty: filter column 1: there is no property nam; expected one of createdAt, generation, id, name, state, updatedAt",
		"name=x and ":     "ParsingError: filter column 12: expected a property name or (",
		"name='ä' oder x": "ParsingError: filter column 10: expected and, or, or the end",
		"generation>x":    "ParsingError: filter column 12: expected a number",
	} {
		rec := w.call("CA-05", w.reader, "alpha", "", filtered(text))
		require.Equal(t, 400, rec.Code)
		body, err := json.Marshal(map[string]any{"code": "400", "message": want, "subsystem": 500})
		require.NoError(t, err)
		require.JSONEq(t, string(body), rec.Body.String(), text)
	}
}

// Whatever stands in a filter: no 5xx, nothing of the database in an answer, and
// no row that the reference does not let pass.
func TestCA05_HostileFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Equal(t, 201, w.call("CA-06", w.writer, "alpha", `{"name":"only"}`).Code)
	lines := append(testvec.JSON[[]string](t, "blns/blns.json"),
		"' or '1'='1", "x' or 1=1 --", "'; drop table ca_signer; --", "$1", "%' or name like '%", `\`, "\\'", "x\x00y", "x\xffy", "{", "}", "[i]", "]", "null")
	for _, line := range lines {
		for _, text := range []string{line, "name=" + line, "name='" + line + "'", `name="` + line + `"`, "name=`" + line + "`", "name like '" + line + "'", "name in {'" + line + "'}[i]", line + "=x"} {
			r := httptest.NewRequest("GET", "/v2/tenants/alpha/signers"+filtered(text), nil)
			r.Header.Set("Authorization", "Bearer "+w.reader)
			rec := httptest.NewRecorder()
			w.mux.ServeHTTP(rec, r)
			require.Contains(t, []int{200, 400}, rec.Code, "%q: %s", text, rec.Body)
			for _, word := range []string{"select", "syntax error", "SQLSTATE", "ca_signer where", "operator does not exist"} {
				if !strings.Contains(text, word) {
					require.NotContains(t, rec.Body.String(), word, text)
				}
			}
		}
	}
	require.Equal(t, 200, w.call("CA-01", w.reader, "alpha", "").Code, "it is still there")
}

func TestCA12_Certificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var list []certificate
	rec := w.call("CA-12", w.reader, "alpha", "")
	w.into(rec, 200, &list)
	require.Empty(t, list)
	require.Equal(t, "0", rec.Header().Get("X-Total-Count"))

	var s signer
	w.into(w.call("CA-06", w.writer, "alpha", ""), 201, &s)
	const client = "01FH8MDGN9W5C3RXRFNX6G16%02d"
	for i := range 6 {
		w.device("cb9f4b9c-5ebd-44e0-a9c6-806ef49483c1", fmt.Sprintf(client, i))
	}
	w.device("other user", fmt.Sprintf(client, 6))
	require.Equal(t, 201, w.call("CA-06", w.betaWriter, "beta", "").Code)

	for text, want := range map[string]int{
		"": 8,
		"user=cb9f4b9c-5ebd-44e0-a9c6-806ef49483c1": 6,
		"profile in { AST_DEVICE, SIGNATURE }":      7,
		"profile !in { AST_DEVICE, SIGNATURE }":     1,
		"status=ISSUED and user='other user'":       1,
		"status=EXPIRED":                            0,
		"client$=604":                               1,
		"certRef=" + s.ID:                           1,
		"user=null && client=null":                  1,
	} {
		rec := w.call("CA-12", w.reader, "alpha", "", filtered(text))
		w.into(rec, 200, &list)
		require.Len(t, list, want, text)
		require.Equal(t, fmt.Sprint(want), rec.Header().Get("X-Total-Count"), text)
	}
	rec = w.call("CA-12", w.reader, "alpha", "", "?page=2&page_size=5")
	w.into(rec, 200, &list)
	require.Len(t, list, 3)
	require.Equal(t, "8", rec.Header().Get("X-Total-Count"))
	last := list[2]
	require.Equal(t, certificate{
		CertRef: s.ID, Status: "ISSUED", CertProfile: "SIGNER", RequestedAt: last.RequestedAt, IssuedAt: last.IssuedAt,
	}, last, "the signer's own, which is the oldest")
	rec = w.call("CA-12", w.reader, "alpha", "", "?page=3&page_size=5")
	require.JSONEq(t, `[]`, rec.Body.String())
	require.Equal(t, "8", rec.Header().Get("X-Total-Count"))
	require.JSONEq(t, `{"code":"400","message":"UnknownProperty: filter column 1: there is no property name; expected one of certRef, client, profile, status, user","subsystem":500}`,
		w.call("CA-12", w.reader, "alpha", "", filtered("name=x")).Body.String())
}

func TestCA13_StatusByReference(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var s signer
	w.into(w.call("CA-06", w.writer, "alpha", ""), 201, &s)
	made := w.device("jane", "01FH8MDGN9W5C3RXRFNX6G164S")
	var got certificate
	w.into(w.call("CA-13", w.reader, "alpha", "", made.Ref), 200, &got)
	require.WithinDuration(t, time.Now(), got.IssuedAt, time.Minute)
	require.Equal(t, certificate{
		CertRef: made.Ref, Status: "ISSUED", Signer: s.ID, User: "jane", Client: "01FH8MDGN9W5C3RXRFNX6G164S", CertProfile: "AST_DEVICE",
		RequestedAt: got.RequestedAt, IssuedAt: got.IssuedAt,
	}, got)
	w.into(w.call("CA-13", w.reader, "alpha", "", s.ID), 200, &got)
	require.Equal(t, "SIGNER", got.CertProfile, "a signer's id is a reference too")

	for status, change := range map[string]string{
		"REQUESTED": `status = 'REQUESTED', certificate = null, issued_at = null`,
		"FAILED":    `status = 'FAILED'`,
		"EXPIRED":   `status = 'ISSUED', certificate = '\x00', issued_at = requested_at, not_after = now() - interval '2 seconds'`,
	} {
		_, err := w.DB.Exec(t.Context(), `update ca_certificate set `+change+` where cert_ref = $1`, made.Ref)
		if status == "FAILED" { // from REQUESTED or ISSUED
			_, err = w.DB.Exec(t.Context(), `update ca_certificate set status = 'FAILED', certificate = null, issued_at = null where cert_ref = $1`, made.Ref)
		}
		require.NoError(t, err)
		w.into(w.call("CA-13", w.reader, "alpha", "", made.Ref), 200, &got)
		require.Equal(t, status, got.Status)
	}
	missing := w.call("CA-13", w.reader, "alpha", "", ulid.Make().String())
	require.Equal(t, 404, missing.Code)
	require.JSONEq(t, `{"code":"404","message":"the certificate does not exist","subsystem":500}`, missing.Body.String())
	require.Equal(t, missing.Body.String(), w.call("CA-13", w.betaWriter, "beta", "", made.Ref).Body.String())
}

// What the contract refuses of a query is refused, and the other way round.
func TestListVerdictsAgreeWithTheContract(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, id := range []string{"CA-05", "CA-12"} {
		op := w.contract.Operations(id)[0]
		path := strings.NewReplacer("{tenant}", "alpha", "{tenantId}", "alpha").Replace(op.Path)
		for _, query := range []string{
			"?filter=" + strings.Repeat("%20", 4096), "?filter=" + strings.Repeat("%20", 4097), "?filter=" + strings.Repeat("%C3%A4", 4097), "?page=2147483647", "?page=2147483648", "?page_size=5&page=1",
		} {
			r := httptest.NewRequest(http.MethodGet, path+query, nil)
			refused := w.contract.Request(op, r, nil) != nil
			require.Equal(t, refused, w.call(id, w.reader, "alpha", "", query).Code == 400, "%s %.40s", id, query)
		}
	}
}
